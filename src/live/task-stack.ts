/** Reads a task's kernel stack from /proc/PID/stack, which has function names and no addresses. */
import { KtstrError } from "../errors.ts";
import type { StackFrame, TaskStack } from "../task-stack.ts";
import type { Sys } from "./sys.ts";

/**
 * /proc/PID exists for every thread, although only processes are listed. `why` is the error that prevented reading the
 * kernel's memory. Throws `KtstrError`.
 */
export function readProcStack(sys: Sys, pid: number, why: KtstrError): TaskStack {
  const text = (file: string): string | undefined => {
    const bytes = sys.readFile(`/proc/${pid}/${file}`);
    return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
  };
  const status = text("status");
  if (status === undefined) throw new KtstrError(`task stack: there is no task ${pid} in /proc`);
  const lines = text("stack");
  if (lines === undefined)
    throw new KtstrError(
      `task stack: cannot read /proc/${pid}/stack, which needs CAP_SYS_ADMIN and CONFIG_STACKTRACE; and ${why.message}`,
      { hint: why.hint },
    );
  const frames = lines.split("\n").flatMap(frameOf);
  return {
    pid,
    tgid: Number(/^Tgid:\s*(\d{1,10})$/m.exec(status)?.[1] ?? pid),
    comm: (text("comm") ?? "").replace(/\n$/, ""),
    frames,
    stopped:
      frames.length === 0
        ? "/proc/PID/stack has no frames: the task was running on a CPU, or in user space"
        : "",
  };
}

/** "[<0>] do_wait+0x5a/0x120". */
function frameOf(line: string): StackFrame[] {
  const symbol = /^\[<[0-9a-f]{1,16}>\] (.{1,1000})$/.exec(line)?.[1];
  return symbol === undefined ? [] : [{ address: undefined, symbol }];
}
