/** Walks the cgroup2 hierarchy of the running kernel by its directories. */
import { ENOENT, ENOTDIR } from "../uapi/errno.ts";
import { mountsOf } from "./mounts.ts";
import type { OpenDirectory, Sys } from "./sys.ts";

const MAX_CGROUPS = 65_536;
const SLASH: Uint8Array = Buffer.from("/");

/**
 * Visits every cgroup under a cgroup2 mount, parents first. The descriptor is closed after the visit. Returns the reason if
 * the walk stopped early, else "".
 */
export function forEachCgroup(
  sys: Sys,
  root: string,
  visit: (path: Uint8Array, directory: OpenDirectory, level: number) => void,
  onError: (errno: number) => void,
): string {
  const pending = [{ path: new Uint8Array() as Uint8Array, level: 0 }];
  for (let seen = 0; pending.length > 0 && seen < MAX_CGROUPS; seen++) {
    const { path, level } = pending.pop()!;
    const directory = sys.openDirectory(Buffer.concat([Buffer.from(root), path]));
    if (typeof directory === "number") {
      // Deleted since it was listed, or a file.
      if (directory !== -ENOENT && directory !== -ENOTDIR) onError(-directory);
      continue;
    }
    using _ = directory.fd;
    for (const name of [...directory.children].reverse())
      pending.push({ path: Buffer.concat([path, SLASH, name]), level: level + 1 });
    visit(path.length === 0 ? SLASH : path, directory, level);
  }
  return pending.length === 0 ? "" : `stopped after ${MAX_CGROUPS} cgroups`;
}

/** Cgroup paths by id, the inode number of the directory (fs/kernfs/mount.c). The hierarchy is walked on first use. */
export class CgroupPaths {
  readonly #sys: Sys;
  #paths: ReadonlyMap<bigint, Uint8Array> | undefined;

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** Returns the path of a cgroup; undefined if there is no such cgroup or cgroup2 is not mounted. */
  of(id: number | bigint): Uint8Array | undefined {
    this.#paths ??= this.#list();
    return this.#paths.get(BigInt(id));
  }

  #list(): ReadonlyMap<bigint, Uint8Array> {
    const paths = new Map<bigint, Uint8Array>();
    const root = mountsOf(this.#sys, "cgroup2")?.[0];
    if (root === undefined) return paths;
    forEachCgroup(
      this.#sys,
      root,
      (path, { inode }) => paths.set(inode, path),
      () => {},
    );
    return paths;
  }
}
