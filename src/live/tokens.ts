/** Lists bpf file systems that BPF tokens can be created from, by their mount options in /proc/self/mounts. */
import { KtstrError } from "../errors.ts";
import type { TokenMount } from "../features.ts";
import { unmangled } from "./mounts.ts";
import type { Sys } from "./sys.ts";

/** Throws `KtstrError` if there is no /proc. */
export function readTokenMounts(sys: Sys): TokenMount[] {
  const mounts = sys.readFile("/proc/self/mounts");
  if (mounts === undefined)
    throw new KtstrError("/proc/self/mounts cannot be read", {
      hint: "`mount -t proc proc /proc` mounts it",
    });
  const all: TokenMount[] = [];
  // Paths are arbitrary bytes; latin1 preserves them.
  for (const line of Buffer.from(mounts).toString("latin1").split("\n")) {
    const [, path = "", type, options = ""] = line.split(" ");
    if (type !== "bpf") continue;
    const of = (key: string): string[] => {
      const option = options.split(",").find((one) => one.startsWith(`delegate_${key}=`));
      return option === undefined ? [] : option.slice(option.indexOf("=") + 1).split(":");
    };
    const names = { cmds: of("cmds"), maps: of("maps"), progs: of("progs"), attachs: of("attachs") };
    if (Object.values(names).some((list) => list.length > 0))
      all.push({ path: Buffer.from(unmangled(path), "latin1"), ...names });
  }
  return all;
}
