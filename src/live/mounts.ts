/** Mounted file systems, from /proc/self/mounts. */
import type { Sys } from "./sys.ts";

/** Decodes octal escapes of blanks and backslashes (fs/proc_namespace.c, mangle). */
export function unmangled(path: string): string {
  return path.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Returns the mount points of a file system type in mount order; undefined if /proc/self/mounts cannot be read. */
export function mountsOf(sys: Sys, type: string): string[] | undefined {
  const mounts = sys.readFile("/proc/self/mounts");
  if (mounts === undefined) return undefined;
  const paths: string[] = [];
  for (const line of new TextDecoder().decode(mounts).split("\n")) {
    const [, path = "", itsType] = line.split(" ");
    if (itsType === type) paths.push(unmangled(path));
  }
  return paths;
}
