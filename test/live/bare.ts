/** A process that has neither /proc nor /sys. */
import { spawn } from "./bpftool.ts";

/**
 * `/proc/self/maps` as it is without address space randomisation: the stack alone. glibc looks for the main thread's stack in
 * this file (nptl/pthread_getattr_np.c), and JavaScriptCore aborts where glibc does not find it. So one line of one file is
 * there, for the runtime; whatever else ktstr asks /proc and /sys for is absent.
 */
const STACK = "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]";

/** Runs a program where neither /proc nor /sys is mounted; x86-64 and root. */
export function bare(command: readonly string[]): ReturnType<typeof spawn> {
  const script = [
    "umount -R -l /sys && umount -R -l /proc && mount -t tmpfs none /proc && mkdir /proc/self",
    `echo '${STACK}' > /proc/self/maps`,
    'exec "$@"',
  ].join("\n");
  return spawn(["unshare", "-m", "setarch", "-R", "sh", "-ec", script, "sh", ...command]);
}
