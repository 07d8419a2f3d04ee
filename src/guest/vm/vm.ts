/** A running virtual machine: finds its process and its RAM, and pauses it. */
import { KtstrError } from "../../errors.ts";
import type { MemorySource } from "../image/image.ts";
import { placeIn } from "./arguments.ts";
import { type Pause, pauseVm } from "./pause.ts";
import { Qmp } from "./qmp.ts";
import { openRam, type RamFacts, readProc } from "./ram.ts";
import { prstatusOf } from "./registers.ts";

function processOf(path: string): number | undefined {
  const [, pid] = /^\/proc\/(\d+)\/mem$/.exec(path) ?? [];
  return pid === undefined ? undefined : Number(pid);
}

/** Reads facts through QMP. The memory map is read only if the address of a memory object is needed. */
function factsOf(qmp: Qmp): RamFacts {
  const base = qmp.command("query-memory-size-summary")["base-memory"];
  let map: string | undefined;
  return {
    sizeBytes: typeof base === "number" && base > 0 ? base : undefined,
    addressOf(id) {
      map ??= qmp.monitor("info mtree -f");
      const place = placeIn(map, id);
      if (place === undefined) return undefined;
      const [, address] = / is (0x[0-9a-f]+)/.exec(qmp.monitor(`gpa2hva 0x${place.toString(16)}`)) ?? [];
      return address === undefined ? undefined : Number(address);
    },
  };
}

const HIGHEST_PRIORITY = -20;

/** Raises this process's priority, and returns a function that restores it. */
function raisePriority(): () => void {
  const { getPriority, setPriority } = process.getBuiltinModule("node:os");
  try {
    const usual = getPriority();
    setPriority(HIGHEST_PRIORITY);
    return () => setPriority(usual);
  } catch {
    return () => {}; // it requires CAP_SYS_NICE
  }
}

export class RunningVm implements Disposable {
  readonly #path: string;
  readonly #pid: number;
  readonly #qmp: Qmp | undefined;

  /** `path` is /proc/PID/mem or QEMU's QMP socket. Throws `KtstrError` if neither can be used. */
  constructor(path: string) {
    this.#path = path;
    const pid = processOf(path);
    this.#qmp = pid === undefined ? new Qmp(path) : undefined;
    this.#pid = pid ?? this.#qmp?.pid ?? 0;
    try {
      if (this.#pid <= 0 || this.#pid === process.pid)
        throw new KtstrError(`${path}: it does not belong to a virtual machine's process`);
      readProc(this.#pid, "maps");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Returns the machine's RAM, which is read on demand. The registers are those of a paused machine with a QMP socket. Throws
   * `KtstrError` if the RAM is not found.
   */
  ram(): MemorySource {
    const qmp = this.#qmp;
    const registers = qmp && (() => prstatusOf(qmp));
    return { path: this.#path, ram: openRam(this.#pid, qmp && factsOf(qmp)), registers };
  }

  /** Pauses the machine. Returns undefined if it was already paused. */
  pause(): Pause | undefined {
    return pauseVm(this.#pid, this.#qmp);
  }

  /** Pauses the machine and, if this user may, raises this process's priority until the end of the pause. */
  pauseBriefly(): Pause | undefined {
    const restorePriority = raisePriority();
    try {
      const pause = this.pause();
      const end = (): number => {
        const lasted = pause?.end() ?? 0;
        restorePriority();
        return lasted;
      };
      if (pause === undefined) restorePriority();
      return pause === undefined ? undefined : { end, [Symbol.dispose]: () => void end() };
    } catch (error) {
      restorePriority();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#qmp?.[Symbol.dispose]();
  }
}
