/**
 * Prints the peak of a command's resident memory, `VmHWM` in kB, on standard error when the command exits. It is loaded into the
 * command with `bun --preload`. The rusage of a child cannot be used: its maximum includes the memory of the process that
 * started it (fs/exec.c, exec_mmap).
 */
import { readFileSync } from "node:fs";

process.on("exit", () => {
  const line = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
  process.stderr.write(`peak ${line?.[1] ?? ""}\n`);
});
