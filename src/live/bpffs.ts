/** Lists the pinned objects of all bpf file systems. pinned.ts opens one path. */
import { lstatSync, readdirSync } from "node:fs";
import type { PinnedKind } from "../attachments.ts";
import { KtstrError } from "../errors.ts";
import { mountsOf } from "./mounts.ts";
import { objectId } from "./objects.ts";
import { kindOf, openAt } from "./pinned.ts";
import type { Sys } from "./sys.ts";

/** Limit on files that are opened. */
const MAX_PATHS = 100_000;
const SLASH = Buffer.from("/");
/** The replacement for a byte that is not UTF-8 in decoded text. */
const REPLACEMENT = Buffer.from("\ufffd");

/**
 * Returns the paths of every pinned object of a kind, by object id, in all bpf file systems that this process sees
 * (bpftool's `--bpffs`). Files that cannot be opened are left out. Paths are bytes: names need not be UTF-8. Throws
 * `KtstrError` if /proc/self/mounts cannot be read. `warn` receives a sentence if there are more files than the limit.
 *
 * @public Loaded by maps.ts.
 */
export function pinnedPaths(
  kind: PinnedKind,
  sys: Sys,
  warn: (sentence: string) => void,
  limit: number = MAX_PATHS,
): ReadonlyMap<number, readonly Uint8Array[]> {
  const paths = new Map<number, Uint8Array[]>();
  let left = limit;
  const mounts = mountsOf(sys, "bpf");
  if (mounts === undefined) {
    throw new KtstrError("pinned paths: /proc/self/mounts cannot be read", {
      hint: "it lists the mounted bpf file systems; mount /proc (mount -t proc proc /proc)",
    });
  }
  for (const mount of new Set(mounts)) {
    const pending: Buffer[] = [Buffer.from(mount)];
    for (let path = pending.pop(); path !== undefined && left >= 0; path = pending.pop()) {
      for (const entry of entriesOf(path)) {
        const at = Buffer.concat([path, SLASH, entry.name]);
        if (entry.isDirectory) pending.push(at);
        if (!entry.isFile) continue;
        if (--left < 0) break;
        const id = idAt(sys, at, kind);
        if (id !== undefined) paths.set(id, [...(paths.get(id) ?? []), at]);
      }
    }
  }
  if (left < 0) warn(`the list of pinned paths is not complete: only the first ${limit} files were opened`);
  return paths;
}

interface Entry {
  readonly name: Buffer;
  readonly isDirectory: boolean;
  readonly isFile: boolean;
}

/** readdir gives file types only with decoded names; names that are not UTF-8 are read again as bytes and use lstat(2). */
function entriesOf(path: Buffer): readonly Entry[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true }).map(
      (entry): Entry => ({
        name: Buffer.from(entry.name),
        isDirectory: entry.isDirectory(),
        isFile: entry.isFile(),
      }),
    );
    const isText = (name: Buffer): boolean => !name.includes(REPLACEMENT);
    const odd = entries.every(({ name }) => isText(name)) ? [] : readdirSync(path, { encoding: "buffer" });
    return [
      ...entries.filter(({ name }) => isText(name)),
      ...odd.filter((name) => !isText(Buffer.from(name.toString()))).map((name) => entryAt(path, name)),
    ];
  } catch {
    return [];
  }
}

function entryAt(folder: Buffer, name: Buffer): Entry {
  const found = lstatSync(Buffer.concat([folder, SLASH, name]), { throwIfNoEntry: false });
  return { name, isDirectory: found?.isDirectory() === true, isFile: found?.isFile() === true };
}

function idAt(sys: Sys, path: Uint8Array, kind: PinnedKind): number | undefined {
  const opened = openAt(path, sys);
  if (typeof opened === "number") return undefined;
  using fd = opened;
  return kindOf(fd, sys) === kind ? objectId(sys, fd) : undefined;
}
