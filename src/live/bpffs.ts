/** Everything that is pinned: the other direction of pinned.ts. */
import { type Dirent, readdirSync } from "node:fs";
import { Fd } from "../ffi.ts";
import { OBJ_ATTR } from "../uapi/bpf.ts";
import { Attr } from "./attr.ts";
import { fdInfoNumber } from "./fdinfo.ts";
import { mountsOf } from "./mounts.ts";
import { pinned } from "./objects.ts";
import { ID_KEYS, type PinnedKind } from "./pinned.ts";
import { realSys, type Sys } from "./sys.ts";

/** More than anybody pins: a bound on what is opened. */
const MAX_PATHS = 100_000;

/**
 * The paths of every pinned object of a kind by its id, in all file systems of type bpf that this process sees, as
 * bpftool's `--bpffs` finds them. What cannot be opened is left out.
 */
export function pinnedPaths(kind: PinnedKind, sys: Sys = realSys): ReadonlyMap<number, readonly string[]> {
  const paths = new Map<number, string[]>();
  let left = MAX_PATHS;
  for (const mount of new Set(mountsOf(sys, "bpf"))) {
    const pending = [mount];
    for (let path = pending.pop(); path !== undefined && left > 0; path = pending.pop()) {
      for (const entry of entriesOf(path)) {
        const at = `${path}/${entry.name}`;
        if (entry.isDirectory()) pending.push(at);
        if (!entry.isFile() || --left < 0) continue;
        const id = idAt(sys, at, kind);
        if (id !== undefined) paths.set(id, [...(paths.get(id) ?? []), at]);
      }
    }
  }
  return paths;
}

function entriesOf(path: string): readonly Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}

function idAt(sys: Sys, path: string, kind: PinnedKind): number | undefined {
  const encoded = Buffer.from(`${path}\0`);
  const pathname = pinned(encoded.length);
  pathname.set(encoded);
  const number = sys.bpf("BPF_OBJ_GET", new Attr(OBJ_ATTR).point("pathname", pathname));
  if (number < 0) return undefined;
  using fd = new Fd(number, path, sys.close);
  return fdInfoNumber(sys.readFdInfo(fd.number), ID_KEYS[kind]);
}
