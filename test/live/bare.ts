/** A process that has neither /proc nor /sys. */
import { spawn } from "./bpftool.ts";

/**
 * Shell lines: keep the line of the stack, before /proc is unmounted, and put it back as the only file of /proc after. glibc
 * looks for the main thread's stack in /proc/self/maps (nptl/pthread_getattr_np.c), and JavaScriptCore aborts where it does not
 * find it, before any code of ours runs. Stacks end at one address where address space randomisation is off.
 */
export const KEEP_STACK = "stack=$(grep -F '[stack]' /proc/self/maps)";
export const ONLY_STACK = 'mkdir -p /proc/self && echo "$stack" > /proc/self/maps';

/** What is read in /proc/self/fdinfo, and who holds an object, which /proc/PID/fd tells. */
const ONLY_IN_PROC = ["bytes_memlock", "frozen", "owner_prog_type", "owner_jited", "pids", "bpf_cookie"];

/** Objects of bpftool's without what nobody but /proc tells. */
export function withoutProc(list: unknown): { [key: string]: unknown }[] {
  return (list as object[]).map((item) =>
    Object.fromEntries(Object.entries(item).filter(([key]) => !ONLY_IN_PROC.includes(key))),
  );
}

/** Runs a program where neither /proc nor /sys is mounted; as root. */
export function bare(command: readonly string[]): ReturnType<typeof spawn> {
  const script = [
    KEEP_STACK,
    "umount -R -l /sys",
    "umount -R -l /proc",
    "mount -t tmpfs none /proc",
    ONLY_STACK,
    'exec "$@"',
  ].join("\n");
  return spawn(["unshare", "-m", "setarch", "-R", "sh", "-ec", script, "sh", ...command]);
}
