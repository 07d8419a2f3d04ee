/** Reads paths of files: `struct path` -> the result of `d_path` (fs/d_path.c). */
import { at, place, ptr, struct, u32 } from "../../btf/struct.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";
import type { GuestKernel } from "./kernel.ts";

const DENTRY = struct("dentry", {
  d_parent: ptr,
  name: at(ptr, "d_name.name"),
  length: at(u32, "d_name.len"),
  hashed: at(ptr, "d_hash.pprev"),
});
const MOUNT = struct("mount", { mnt_parent: ptr, mnt_mountpoint: ptr, mnt: place });
const VFSMOUNT = struct("vfsmount", { mnt_root: ptr });

/** NAME_MAX is 255; a few kernel file systems have longer names. */
const MAX_NAME_BYTES = 4096;
/** PATH_MAX limits the number of components. */
const MAX_STEPS = 4096;

/**
 * Returns the path from the root of all mounts, with " (deleted)" appended for a deleted file. `mount` is a
 * `struct vfsmount *`, `file` a `struct dentry *`. Throws `GuestFault`.
 */
export function pathOf({ memory, btf }: GuestKernel, mount: Pointer, file: Pointer): string {
  const dentries = DENTRY.resolve(btf);
  const mounts = MOUNT.resolve(btf);
  const { mnt_root } = VFSMOUNT.resolve(btf);
  const parts: string[] = [];
  let dentry = file;
  let current = mount;
  for (let step = 0; step < MAX_STEPS; step++) {
    const root = memory.pointer(current.hi, current.lo, mnt_root, "vfsmount.mnt_root");
    const parent = memory.pointer(dentry.hi, dentry.lo, dentries.d_parent, "dentry.d_parent");
    if (same(dentry, root) || same(dentry, parent)) {
      const outer = add(current, -mounts.mnt);
      const above = memory.pointer(outer.hi, outer.lo, mounts.mnt_parent, "mount.mnt_parent");
      if (same(above, outer) || isNull(above)) break;
      dentry = memory.pointer(outer.hi, outer.lo, mounts.mnt_mountpoint, "mount.mnt_mountpoint");
      current = add(above, mounts.mnt);
      continue;
    }
    const name = memory.pointer(dentry.hi, dentry.lo, dentries.name, "dentry.d_name.name");
    const length = memory.u32(dentry.hi, dentry.lo, dentries.length, "dentry.d_name.len");
    const bytes = memory.copy(name.hi, name.lo, 0, Math.min(length, MAX_NAME_BYTES), "dentry.d_name.name");
    parts.push(Buffer.from(bytes).toString("utf8"));
    dentry = parent;
  }
  // `d_unlinked`: the root of a file system is not hashed either.
  const isRoot = same(file, memory.pointer(file.hi, file.lo, dentries.d_parent, "dentry.d_parent"));
  const isGone = !isRoot && isNull(memory.pointer(file.hi, file.lo, dentries.hashed, "dentry.d_hash"));
  return `/${parts.reverse().join("/")}${isGone && parts.length > 0 ? " (deleted)" : ""}`;
}

const same = (a: Pointer, b: Pointer): boolean => a.hi === b.hi && a.lo === b.lo;
