/** Runs the executable without /proc, /sys and /dev, and removes from bpftool's answers the keys that need them. */
import { buildExecutable } from "../../tools/build.ts";
import { spawn } from "./bpftool.ts";

/** Builds the executable with the Bun that runs the tests, because only the executable starts without /proc. Returns its path. */
export function buildForThisMachine(folder: string): Promise<string> {
  return buildExecutable(process.arch === "arm64" ? "arm64" : "x64", folder, process.execPath);
}

/** Keys that are read from /proc/self/fdinfo, and the holders of an object from /proc/PID/fd. */
const ONLY_IN_PROC = ["bytes_memlock", "frozen", "owner_prog_type", "owner_jited", "pids", "bpf_cookie"];

/** Returns bpftool's objects without the keys that only /proc has. */
export function withoutProc(list: unknown): { [key: string]: unknown }[] {
  return (list as object[]).map((item) =>
    Object.fromEntries(Object.entries(item).filter(([key]) => !ONLY_IN_PROC.includes(key))),
  );
}

/** Runs a program without /proc, /sys and /dev mounted. Needs root. */
export function runWithoutProc(command: readonly string[]): ReturnType<typeof spawn> {
  const script = [
    "for at in /sys /dev /proc; do umount -R -l $at; done",
    "for file in /proc/self /sys/kernel; do [ ! -e $file ] || exit 99; done",
    'exec "$@"',
  ].join("\n");
  return spawn(["unshare", "-m", "sh", "-ec", script, "sh", ...command]);
}
