/**
 * Classifies the lines of a scx dump by their text alone: journald drops empty lines and leading blanks. The formats are
 * those of `scx_dump_state`, `scx_dump_cpu` and `scx_dump_task` from 6.12 to 7.3.
 */

export type DumpLine =
  | { readonly kind: "blank" | "rule" | "states" | "events" | "backtrace" | "truncated" | "end" }
  | { readonly kind: "owner"; readonly ops: string; readonly scheduler: string; readonly path: string }
  | { readonly kind: "debug"; readonly reason: string }
  | {
      readonly kind: "exit";
      readonly comm: string;
      readonly pid: number;
      readonly exitKind: number;
      readonly cpu: number | undefined;
    }
  | { readonly kind: "cpu"; readonly cpu: number; readonly fields: Fields }
  | { readonly kind: "rescue" }
  | { readonly kind: "curr"; readonly comm: string; readonly pid: number; readonly schedClass: string }
  | { readonly kind: "kick"; readonly name: string; readonly cpus: readonly number[] }
  | {
      readonly kind: "task";
      readonly isCurrent: boolean;
      readonly state: string;
      readonly comm: string;
      readonly pid: number;
      readonly scheduler: string | undefined;
      readonly isOwn: boolean | undefined;
      readonly waitMs: number;
    }
  | { readonly kind: "fields"; readonly fields: Fields }
  | { readonly kind: "frame"; readonly frame: string }
  | { readonly kind: "event"; readonly name: string; readonly count: bigint }
  | { readonly kind: "notice" }
  | { readonly kind: "other" };

/** The `name=value` pairs of a line. */
export type Fields = ReadonlyMap<string, string>;

const TASK =
  /^(?:(\*)([A-Za-z?])|([A-Za-z?])) (.*)\[(-?\d{1,10})\](?: (\*?)(root|sub\d{1,10}-\d{1,20}))? ([+-]\d{1,15})ms$/;
const EXIT = /^(.*)\[(-?\d{1,10})\] triggered exit kind (\d{1,10})(?: on CPU (\d{1,5}))?:$/;
const CPU = /^CPU (\d{1,5}) *: ((?:\w+=\S+(?: |$))+)$/;
const FIELDS = /^(?:scx_state\/flags=|sticky\/holding_cpu=|dsq_vtime=|cpus=)\S/;
const KICK = /^(cpus_to_\w{1,20}|idle_to_kick) *: ([0-9a-f,]{1,2304})$/;
const FRAME = /^(?:[^\s=]{1,512}\+0x[0-9a-f]+\/0x[0-9a-f]+(?: \[[^\]]{1,200}\])?|0x[0-9a-f]{8,16})$/;

/** Classifies a line. `line` has no log prefix. */
export function readLine(line: string): DumpLine {
  const text = line.trim();
  if (text === "") return { kind: "blank" };
  if (/^-{10,}$/.test(text)) return { kind: "rule" };
  const word = WORDS[text];
  if (word !== undefined) return { kind: word };
  if (/^={20,}$/.test(text)) return { kind: "end" };
  return headingOf(text) ?? cpuLineOf(text) ?? taskLineOf(text) ?? eventOf(text) ?? { kind: "other" };
}

const WORDS: Readonly<Record<string, "states" | "events" | "backtrace" | "truncated" | undefined>> = {
  "CPU states": "states",
  "Runqueue states": "states", // before 6.12
  "Event counters": "events",
  "Backtrace:": "backtrace",
  "~~~~ TRUNCATED ~~~~": "truncated",
};

function headingOf(text: string): DumpLine | undefined {
  const debug = /^Debug dump triggered by (.*)$/.exec(text);
  if (debug !== null) return { kind: "debug", reason: debug[1] ?? "" };
  const exit = EXIT.exec(text);
  if (exit !== null) {
    const [, comm = "", pid, kind, cpu] = exit;
    return { kind: "exit", comm, pid: Number(pid), exitKind: Number(kind), cpu: numberOf(cpu) };
  }
  if (/^(?:sched_ext: |EXIT: )/.test(text)) return { kind: "notice" };
  const owner = /^(\S{1,128}): (?:root|(sub\d{1,10}-\d{1,20}) (.*))$/.exec(text);
  if (owner === null) return undefined;
  const [, ops = "", scheduler = "root", path = ""] = owner;
  return { kind: "owner", ops, scheduler, path };
}

function cpuLineOf(text: string): DumpLine | undefined {
  const cpu = CPU.exec(text);
  if (cpu !== null) return { kind: "cpu", cpu: Number(cpu[1]), fields: fieldsOf(cpu[2] ?? "") };
  const curr = /^curr=(.*)\[(-?\d{1,10})\] class=(\S+)$/.exec(text);
  if (curr !== null)
    return { kind: "curr", comm: curr[1] ?? "", pid: Number(curr[2]), schedClass: curr[3] ?? "" };
  if (/^rescue=\S+ budget=/.test(text)) return { kind: "rescue" };
  const kick = KICK.exec(text);
  const cpus = kick === null ? undefined : cpusOf(kick[2] ?? "");
  return cpus === undefined ? undefined : { kind: "kick", name: kick?.[1] ?? "", cpus };
}

function taskLineOf(text: string): DumpLine | undefined {
  if (FIELDS.test(text)) return { kind: "fields", fields: fieldsOf(text) };
  if (FRAME.test(text)) return { kind: "frame", frame: text };
  const task = TASK.exec(text);
  if (task === null) return undefined;
  const [, star, starred, plain, comm = "", pid, own, scheduler, delta] = task;
  return {
    kind: "task",
    isCurrent: star === "*",
    state: starred ?? plain ?? "",
    comm,
    pid: Number(pid),
    scheduler,
    isOwn: own === undefined ? undefined : own === "*",
    // jiffies_delta_msecs(runnable_at, now): negative if the task became runnable before the dump.
    waitMs: 0 - Number(delta),
  };
}

function eventOf(text: string): DumpLine | undefined {
  const event = /^(SCX_EV_\w{1,64}): +(-?\d{1,20})$/.exec(text);
  return event === null ? undefined : { kind: "event", name: event[1] ?? "", count: BigInt(event[2] ?? "0") };
}

/** Splits pairs: "scx_state/flags=4/0x5" becomes "scx_state" = "4" and "flags" = "0x5". */
function fieldsOf(text: string): Fields {
  const fields = new Map<string, string>();
  for (const pair of text.split(" ")) {
    const at = pair.indexOf("=");
    if (at <= 0) continue;
    const names = pair.slice(0, at).split("/");
    const values = names.length === 1 ? [pair.slice(at + 1)] : pair.slice(at + 1).split("/");
    names.forEach((name, index) => {
      const value = values[index];
      if (value !== undefined) fields.set(name, value);
    });
  }
  return fields;
}

export function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^(?:-?\d{1,15}|0x[0-9a-f]{1,13})$/.test(text) ? Number(text) : undefined;
}

/** Parses an unsigned integer of at most 64 bits. Returns undefined if the text is not one. */
export function bigintOf(text: string | undefined): bigint | undefined {
  if (text === undefined || !/^(?:\d{1,20}|0x[0-9a-f]{1,16})$/.test(text)) return undefined;
  const value = BigInt(text);
  return value < 1n << 64n ? value : undefined;
}

/** Parses a mask in the format of `%*pb`: "3", "ffffffff,00000001". Returns undefined if the text is not a mask. */
export function cpusOf(mask: string | undefined): number[] | undefined {
  if (mask === undefined || !/^[0-9a-f]{1,8}(?:,[0-9a-f]{1,8}){0,255}$/.test(mask)) return undefined;
  const cpus: number[] = [];
  mask
    .split(",")
    .reverse()
    .forEach((word, index) => {
      const bits = Number.parseInt(word, 16);
      for (let bit = 0; bit < 32; bit++) if ((bits >>> bit) & 1) cpus.push(index * 32 + bit);
    });
  return cpus;
}
