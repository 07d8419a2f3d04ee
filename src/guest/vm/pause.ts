/**
 * Pauses a machine and guarantees that it is resumed: a guard shell waits for a confirmation that the machine runs again,
 * and resumes it itself if this process dies first, by any signal.
 */
import { KtstrError, SyscallError } from "../../errors.ts";
import { Fd, pipe, write } from "../../ffi.ts";
import { errnoName } from "../../uapi/errno.ts";
import type { Qmp } from "./qmp.ts";
import { readProc } from "./ram.ts";

export interface Pause extends Disposable {
  /** Resumes the machine. Returns the length of the pause in milliseconds; a second call returns the same value. */
  end(): number;
}

/** Stops a machine through its QMP socket or by a signal. Returns undefined if it was already stopped, and leaves it so. */
export function pauseVm(pid: number, qmp: Qmp | undefined): Pause | undefined {
  if (qmp === undefined ? isStopped(pid) : qmp.command("query-status")["running"] !== true) return undefined;
  const guard = new Guard(pid, qmp);
  const began = performance.now();
  let lasted: number | undefined;
  const resume = (): void => {
    if (qmp === undefined) signal(pid, "SIGCONT");
    else qmp.command("cont");
  };
  const end = (): number => {
    if (lasted !== undefined) return lasted;
    resume();
    lasted = performance.now() - began;
    guard.release();
    return lasted;
  };
  try {
    if (qmp === undefined) stop(pid);
    else qmp.command("stop");
  } catch (error) {
    // The machine may be stopped. Without a confirmation, the guard resumes it.
    guard[Symbol.dispose]();
    throw error;
  }
  return { end, [Symbol.dispose]: () => void end() };
}

function signal(pid: number, name: "SIGSTOP" | "SIGCONT"): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    throw new KtstrError(`${name} to process ${pid}: ${(error as NodeJS.ErrnoException).code}`, {
      cause: error,
    });
  }
}

const STOP_MS = 1000;

/** Stops all threads and waits for them. Throws `KtstrError` if one does not stop. */
function stop(pid: number): void {
  signal(pid, "SIGSTOP");
  const began = performance.now();
  while (!isStopped(pid)) {
    if (performance.now() - began > STOP_MS)
      throw new KtstrError(`stop process ${pid}: not all of its threads stopped within ${STOP_MS} ms`);
    Bun.sleepSync(1);
  }
}

/**
 * Returns whether all threads are stopped (T) or have exited (Z, X). proc_pid_stat(5): the state follows the name, which
 * can contain any character. Throws `KtstrError` if there is no such process.
 */
function isStopped(pid: number): boolean {
  return threadsOf(pid).every((thread) => {
    try {
      const stat = readProc(pid, `task/${thread}/stat`);
      return "TtZX".includes(stat.charAt(stat.lastIndexOf(")") + 2));
    } catch {
      return true; // the thread has exited
    }
  });
}

function threadsOf(pid: number): string[] {
  const { readdirSync } = process.getBuiltinModule("node:fs");
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (error) {
    throw new KtstrError(`process ${pid}: the machine's process has exited`, { cause: error });
  }
}

/** Exits if a line confirms that the machine runs. At the end of standard input without one, this process has died. */
const WAIT = "trap '' HUP INT QUIT TERM; read -r done && exit 0;";
const CONTINUE = 'kill -CONT "$1"';
/** Descriptor 3 is the QMP socket, which stays connected from QEMU's side. */
const CONT = `printf '{"execute":"cont"}\\n' >&3; sleep 1`;

class Guard implements Disposable {
  readonly #end: Fd;

  /** Starts the guard in its own session, so that the terminal's signals do not reach it. Throws `KtstrError`. */
  constructor(pid: number, qmp: Qmp | undefined) {
    const ends = pipe();
    if (typeof ends === "number") throw new SyscallError("pipe2", "", -ends, errnoName(-ends));
    this.#end = new Fd(ends[1], "guard");
    using input = new Fd(ends[0], "guard");
    const script = `${WAIT} ${qmp === undefined ? CONTINUE : CONT}`;
    const { number } = input;
    Bun.spawn(["/bin/sh", "-c", script, "ktstr-guard", `${pid}`], {
      stdio: qmp === undefined ? [number, "ignore", "ignore"] : [number, "ignore", "ignore", qmp.fd],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      detached: true,
    }).unref();
  }

  /** Confirms that the machine runs again. The guard exits. */
  release(): void {
    write(this.#end.number, Uint8Array.from(Buffer.from("\n")));
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#end[Symbol.dispose]();
  }
}
