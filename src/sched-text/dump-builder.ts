/** Builds one dump from its lines. */
import type { DumpCount, DumpCpu, DumpEvent, DumpKick, DumpTask, DumpTrigger, ScxDump } from "./dump.ts";
import { bigintOf, cpusOf, type DumpLine, type Fields, numberOf } from "./grammar.ts";
import type { LogLine } from "./lines.ts";

type Mutable<T> = { -readonly [key in keyof T]: T[key] };
type Task = Mutable<Omit<DumpTask, "stack" | "unknown">> & { stack: string[]; unknown: string[] };
type Cpu = Mutable<Omit<DumpCpu, "tasks" | "unknown" | "sequences" | "kicks">> & {
  sequences: DumpCount[];
  kicks: DumpKick[];
  tasks: Task[];
  unknown: string[];
};

type Part = "heading" | "backtrace" | "states" | "events";

export class DumpBuilder {
  readonly #first: number;
  #last: number;
  #part: Part = "heading";
  readonly #owner: Extract<DumpLine, { kind: "owner" }> | undefined;
  readonly #trigger: Mutable<DumpTrigger> & { backtrace: string[] } = {
    kind: "unknown",
    reason: "",
    message: "",
    exitKind: undefined,
    comm: "",
    pid: undefined,
    cpu: undefined,
    backtrace: [],
  };
  readonly #cpus: Cpu[] = [];
  #cpu: Cpu | undefined;
  #task: Task | undefined;
  readonly #events: DumpEvent[] = [];
  readonly #unknown: string[] = [];
  #truncated = false;
  #isCpuMissing = false;

  constructor(line: LogLine, owner: { readonly line: LogLine; readonly parsed: DumpLine } | undefined) {
    this.#first = owner?.line.number ?? line.number;
    this.#last = line.number;
    this.#owner = owner?.parsed.kind === "owner" ? owner.parsed : undefined;
  }

  /** Returns whether the line belongs to another dump whose first lines are missing, or to no dump. */
  endsBefore({ kind }: DumpLine): boolean {
    if (this.#part === "events")
      return kind !== "event" && kind !== "rule" && kind !== "blank" && kind !== "truncated";
    return kind === "end" || (kind === "states" && this.#part === "states");
  }

  add(line: LogLine, parsed: DumpLine): void {
    if (parsed.kind === "blank") return;
    this.#last = line.number;
    switch (parsed.kind) {
      case "debug":
        this.#trigger.kind = "debug";
        this.#trigger.reason = parsed.reason;
        return;
      case "exit": {
        const { comm, pid, exitKind, cpu } = parsed;
        Object.assign(this.#trigger, { kind: "exit", comm, pid, exitKind, cpu });
        return;
      }
      case "backtrace":
        this.#part = "backtrace";
        return;
      case "states":
      case "events":
        this.#part = parsed.kind;
        this.#leaveCpu();
        return;
      case "rule":
      case "end":
        return;
      case "truncated":
        this.#truncated = true;
        return;
      case "event":
        this.#part = "events";
        this.#events.push({ name: parsed.name, count: parsed.count });
        return;
      case "frame":
        this.#addFrame(parsed.frame);
        return;
      default:
        if (!this.#addCpuLine(line, parsed)) this.#addOther(line.text);
    }
  }

  #leaveCpu(): void {
    this.#cpu = undefined;
    this.#task = undefined;
  }

  #addFrame(frame: string): void {
    if (this.#task !== undefined) this.#task.stack.push(frame);
    else if (this.#part === "backtrace") this.#trigger.backtrace.push(frame);
    else this.#unknownOfPart().push(frame);
  }

  /** Adds a line of a CPU or a task. Returns false for other lines. */
  #addCpuLine(line: LogLine, parsed: DumpLine): boolean {
    switch (parsed.kind) {
      case "cpu":
        this.#part = "states";
        this.#task = undefined;
        this.#cpu = newCpu(parsed.cpu, parsed.fields);
        this.#cpus.push(this.#cpu);
        return true;
      case "curr": {
        const { comm, pid, schedClass } = parsed;
        if (this.#cpu === undefined || this.#cpu.currClass !== "") return false;
        Object.assign(this.#cpu, { currComm: comm, currPid: pid, currClass: schedClass });
        return true;
      }
      case "rescue":
        if (this.#cpu === undefined) return false;
        this.#cpu.rescue = line.text.trim();
        return true;
      case "kick":
        this.#cpu?.kicks.push({ name: parsed.name, cpus: parsed.cpus });
        return this.#cpu !== undefined;
      case "task":
        this.#part = "states";
        if (this.#cpu === undefined) {
          this.#isCpuMissing = true;
          this.#cpu = newCpu(-1, new Map());
          this.#cpus.push(this.#cpu);
        }
        this.#task = newTask(parsed);
        this.#cpu.tasks.push(this.#task);
        return true;
      case "fields":
        return this.#task !== undefined && addFields(this.#task, parsed.fields);
      default:
        return false;
    }
  }

  #addOther(text: string): void {
    const trigger = this.#trigger;
    if (this.#part === "heading" && trigger.kind === "exit" && trigger.reason === "") {
      const reason = /^(.*?) \((.*)\)$/s.exec(text.trim());
      if (reason !== null) {
        trigger.reason = reason[1] ?? "";
        trigger.message = reason[2] ?? "";
        return;
      }
    }
    this.#unknownOfPart().push(text);
  }

  #unknownOfPart(): string[] {
    return this.#task?.unknown ?? this.#cpu?.unknown ?? this.#unknown;
  }

  finish(): ScxDump {
    const owner = this.#owner;
    return {
      opsName: owner?.ops,
      scheduler: owner?.scheduler,
      cgroupPath: owner === undefined || owner.path === "" ? undefined : owner.path,
      trigger: this.#trigger,
      cpus: this.#cpus,
      events: this.#events,
      unknown: this.#unknown,
      incomplete: this.#incomplete(),
      firstLine: this.#first,
      lastLine: this.#last,
    };
  }

  #incomplete(): string {
    const why: string[] = [];
    if (this.#trigger.kind === "unknown") why.push("its first lines are missing");
    if (this.#isCpuMissing) why.push("the line of the first tasks' CPU is missing");
    const cut = this.#cpus.flatMap(({ tasks }) => tasks).filter(({ cpus }) => cpus === undefined).length;
    if (this.#truncated)
      why.push("the kernel's dump buffer (`exit_dump_len`) was full, so the rest is cut off");
    else if (this.#part !== "states" && this.#part !== "events")
      why.push("it ends before the states of the CPUs");
    else if (cut > 0) why.push(`lines of ${cut} of its tasks are missing`);
    return why.join("; ");
  }
}

function newCpu(cpu: number, fields: Fields): Cpu {
  const sequences: DumpCount[] = [];
  for (const [name, text] of fields) {
    const value = bigintOf(text);
    if (!["nr_run", "flags", "cpu_rel"].includes(name) && value !== undefined)
      sequences.push({ name, value });
  }
  return {
    cpu,
    nrRunning: numberOf(fields.get("nr_run")),
    flags: numberOf(fields.get("flags")),
    cpuReleased: numberOf(fields.get("cpu_rel")),
    sequences,
    rescue: undefined,
    currComm: "",
    currPid: undefined,
    currClass: "",
    kicks: [],
    tasks: [],
    unknown: [],
  };
}

function newTask({
  isCurrent,
  state,
  comm,
  pid,
  scheduler,
  isOwn,
  waitMs,
}: Extract<DumpLine, { kind: "task" }>): Task {
  return {
    isCurrent,
    state,
    comm,
    pid,
    scheduler,
    isOwn,
    waitMs,
    scxState: undefined,
    flags: undefined,
    dsqFlags: undefined,
    opsState: undefined,
    qseq: undefined,
    stickyCpu: undefined,
    holdingCpu: undefined,
    dsqId: undefined,
    vtime: undefined,
    sliceNs: undefined,
    weight: undefined,
    cpus: undefined,
    migrationDisabled: undefined,
    stack: [],
    unknown: [],
  };
}

/** Sets the members of a task from a line's fields. A member stays undefined if its value does not parse. Returns true. */
function addFields(task: Task, fields: Fields): true {
  for (const [name, text] of fields) SETTERS[name]?.(task, text);
  return true;
}

const SETTERS: Readonly<Record<string, (task: Task, text: string) => void>> = {
  scx_state: (task, text) => {
    task.scxState = numberOf(text);
  },
  flags: (task, text) => {
    task.flags = numberOf(text);
  },
  dsq_flags: (task, text) => {
    task.dsqFlags = numberOf(text);
  },
  ops_state: (task, text) => {
    task.opsState = numberOf(text);
  },
  qseq: (task, text) => {
    task.qseq = bigintOf(text);
  },
  sticky: (task, text) => {
    task.stickyCpu = numberOf(text);
  },
  holding_cpu: (task, text) => {
    task.holdingCpu = numberOf(text);
  },
  dsq_id: (task, text) => {
    task.dsqId = text === "(n/a)" ? null : bigintOf(text);
  },
  dsq_vtime: (task, text) => {
    task.vtime = bigintOf(text);
  },
  slice: (task, text) => {
    task.sliceNs = bigintOf(text);
  },
  weight: (task, text) => {
    task.weight = numberOf(text);
  },
  cpus: (task, text) => {
    task.cpus = cpusOf(text);
  },
  no_mig: (task, text) => {
    task.migrationDisabled = numberOf(text);
  },
};
