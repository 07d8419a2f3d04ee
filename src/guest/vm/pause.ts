/**
 * A machine that stands still while it is read, and always goes on: a shell waits until we say that it has gone on, and
 * continues it itself where we end without a word, by whatever signal.
 */
import { KtstrError, SyscallError } from "../../errors.ts";
import { Fd, pipe, write } from "../../ffi.ts";
import { errnoName } from "../../uapi/errno.ts";
import type { Qmp } from "./qmp.ts";
import { readProc } from "./ram.ts";

export interface Pause extends Disposable {
  /** Continues the machine: for how long it stood still, in milliseconds. A second call tells the same. */
  end(): number;
}

/** Stops a machine, by its QMP socket or by a signal. undefined: it stood still already, and is left so. */
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
    // The guard continues it where we cannot.
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

/** Waits until every thread stands still. Throws `KtstrError` if one does not. */
function stop(pid: number): void {
  signal(pid, "SIGSTOP");
  const began = performance.now();
  while (!isStopped(pid)) {
    if (performance.now() - began > STOP_MS)
      throw new KtstrError(`stop process ${pid}: not all of its threads stood still within ${STOP_MS} ms`);
    Bun.sleepSync(1);
  }
}

/**
 * proc_pid_stat(5): the state behind the name, which may hold any character. T: stopped; Z, X: ended. Throws `KtstrError`
 * where there is no such process.
 */
function isStopped(pid: number): boolean {
  return threadsOf(pid).every((thread) => {
    try {
      const stat = readProc(pid, `task/${thread}/stat`);
      return "TtZX".includes(stat.charAt(stat.lastIndexOf(")") + 2));
    } catch {
      return true; // it ended meanwhile
    }
  });
}

function threadsOf(pid: number): string[] {
  const { readdirSync } = process.getBuiltinModule("node:fs");
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (error) {
    throw new KtstrError(`process ${pid}: the machine has ended`, { cause: error });
  }
}

/** A line says that all is done. Without one, its standard input has ended, and so have we. */
const WAIT = "trap '' HUP INT QUIT TERM; read -r done && exit 0;";
const CONTINUE = 'kill -CONT "$1"';
/** Descriptor 3 is the QMP socket, which QEMU's side still takes for connected. */
const CONT = `printf '{"execute":"cont"}\\n' >&3; sleep 1`;

class Guard implements Disposable {
  readonly #end: Fd;

  /** Starts it, in a session of its own: keys of the terminal do not reach it. Throws `KtstrError`. */
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

  /** The machine goes on: nothing is left to do. */
  release(): void {
    write(this.#end.number, Uint8Array.from(Buffer.from("\n")));
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#end[Symbol.dispose]();
  }
}
