/** A running virtual machine: the process that it runs in, its RAM, and its pause. */
import { KtstrError } from "../../errors.ts";
import type { MemorySource } from "../image/image.ts";
import { type Pause, pauseVm } from "./pause.ts";
import { Qmp } from "./qmp.ts";
import { openRam, readProc } from "./ram.ts";

function processOf(path: string): number | undefined {
  const [, pid] = /^\/proc\/(\d+)\/mem$/.exec(path) ?? [];
  return pid === undefined ? undefined : Number(pid);
}

const MOST_URGENT = -20;

/** Raises our priority; the answer gives it back. */
function hurry(): () => void {
  const { getPriority, setPriority } = process.getBuiltinModule("node:os");
  try {
    const usual = getPriority();
    setPriority(MOST_URGENT);
    return () => setPriority(usual);
  } catch {
    return () => {}; // it takes CAP_SYS_NICE
  }
}

export class RunningVm implements Disposable {
  readonly #path: string;
  readonly #pid: number;
  readonly #qmp: Qmp | undefined;

  /** `path`: /proc/PID/mem, or QEMU's QMP socket. Throws `KtstrError` if nobody answers there. */
  constructor(path: string) {
    this.#path = path;
    const pid = processOf(path);
    this.#qmp = pid === undefined ? new Qmp(path) : undefined;
    this.#pid = pid ?? this.#qmp?.pid ?? 0;
    try {
      if (this.#pid <= 0 || this.#pid === process.pid)
        throw new KtstrError(`${path}: no virtual machine's process is behind it`);
      readProc(this.#pid, "maps");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Its RAM as it is when it is read. Throws `KtstrError` if it is not found. */
  ram(): MemorySource {
    const base = this.#qmp?.command("query-memory-size-summary")["base-memory"];
    const sizeBytes = typeof base === "number" && base > 0 ? base : undefined;
    return { path: this.#path, ram: openRam(this.#pid, sizeBytes) };
  }

  /** undefined: it stood still already. */
  pause(): Pause | undefined {
    return pauseVm(this.#pid, this.#qmp);
  }

  /** The same, and until its end nothing else on this machine goes before us, where this user may say so. */
  pauseBriefly(): Pause | undefined {
    const usual = hurry();
    try {
      const pause = this.pause();
      const end = (): number => {
        const lasted = pause?.end() ?? 0;
        usual();
        return lasted;
      };
      if (pause === undefined) usual();
      return pause === undefined ? undefined : { end, [Symbol.dispose]: () => void end() };
    } catch (error) {
      usual();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#qmp?.[Symbol.dispose]();
  }
}
