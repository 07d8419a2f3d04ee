/** Lists pinned objects of a frozen machine: every `struct super_block` of type bpf, its dentries, its mounts. */
import type { PinnedKind } from "../../attachments.ts";
import { at, optional, place, ptr, struct } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { HeldKind } from "../../state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listOf } from "../kernel/list.ts";
import { pathOf } from "../kernel/paths.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { requireSymbol } from "../kernel/symbols.ts";
import { add, isNull, type Pointer, toBigInt } from "../memory/pointer.ts";
import { idOf } from "./holders.ts";

const SUPER_BLOCK = struct("super_block", { s_list: place, s_type: ptr, s_root: ptr, s_mounts: place });
const FS_TYPE = struct("file_system_type", { name: ptr });
const MOUNT = struct("mount", {
  mnt: place,
  mnt_ns: ptr,
  mnt_instance: optional(place, "until 6.16"),
  mnt_next_for_sb: optional(ptr, "since 6.17"),
});
const DENTRY = struct("dentry", {
  d_inode: ptr,
  hashed: at(ptr, "d_hash.pprev"),
  d_subdirs: optional(place, "until 6.7"),
  d_child: optional(place, "until 6.7"),
  d_children: at(optional(ptr, "since 6.8"), "d_children.first"),
  d_sib: optional(place, "since 6.8"),
  nextSibling: at(optional(ptr, "since 6.8"), "d_sib.next"),
});
const INODE = struct("inode", { i_op: ptr, i_private: ptr });

/** kernel/bpf/inode.c, `bpf_inode_type`: an inode's operations give the type of its `i_private`. */
const OPERATIONS: Readonly<Record<PinnedKind, readonly [string, HeldKind]>> = {
  map: ["bpf_map_iops", "map"],
  program: ["bpf_prog_iops", "prog"],
  link: ["bpf_link_iops", "link"],
};

/** The same limit as for the running kernel. */
const MAX_PATHS = 100_000;
/** Limit on the mounts of one file system: each mount namespace can have its own. */
const MAX_MOUNTS = 4096;
const MAX_TYPE_BYTES = 32;
/** Addresses in the last page are `MNT_NS_INTERNAL` and other error values. */
const FIRST_ERROR = 0xffff_ffff_ffff_f001n;

/**
 * Returns paths by id. Paths in a file system that is open but not mounted start with "(unmounted)". Throws `KtstrError` if
 * the list of file systems is damaged.
 */
export function listPins(
  kernel: GuestKernel,
  kind: PinnedKind,
  warn: (sentence: string) => void,
): ReadonlyMap<number, readonly Uint8Array[]> {
  const { btf, symbols } = kernel;
  const [symbol, held] = OPERATIONS[kind];
  const operations = toBigIntOf(requireSymbol(symbols, symbol));
  const inode = INODE.resolve(btf);
  const paths = new Map<number, Uint8Array[]>();
  const onFault = (error: unknown): void =>
    warn(`pins are left out: ${error instanceof Error ? error.message : error}`);
  for (const { root, mounts } of bpfFileSystems(kernel, onFault)) {
    try {
      for (const { dentry, node, path } of dentries(kernel, root, onFault)) {
        if (toBigIntOf(node.pointer(inode.i_op, "i_op")) !== operations) continue;
        const id = idOf(kernel, held, node.follow(inode.i_private, "i_private"));
        const names = mounts.map((mount) => pathOf(kernel, mount, dentry));
        const unique = new Set(names.length > 0 ? names : [`(unmounted)${path}`]);
        paths.set(id, [...(paths.get(id) ?? []), ...[...unique].map((name) => Buffer.from(name))]);
      }
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      onFault(error);
    }
  }
  return paths;
}

export interface BpfFileSystem {
  /** `struct super_block` */
  readonly block: StructAt;
  /** `struct dentry` of its root. */
  readonly root: Pointer;
  /** `struct vfsmount`s; empty if the file system is open but not mounted. */
  readonly mounts: readonly Pointer[];
}

/** Yields every file system of type bpf, in the order of `super_blocks`. Throws `KtstrError` if there is no such list. */
export function* bpfFileSystems(
  kernel: GuestKernel,
  onFault: (error: unknown) => void,
): Generator<BpfFileSystem> {
  const { btf, memory, symbols } = kernel;
  const layout = SUPER_BLOCK.resolve(btf);
  const head = requireSymbol(symbols, "super_blocks");
  for (const address of listOf(kernel, head, layout.s_list, "super_blocks", onFault)) {
    try {
      const block = new StructAt(memory, address, "super_block.");
      const type = block
        .follow(layout.s_type, "s_type")
        .string(FS_TYPE.resolve(btf).name, "name", MAX_TYPE_BYTES);
      const root = block.pointer(layout.s_root, "s_root");
      if (type !== "bpf" || isNull(root)) continue;
      yield { block, root, mounts: mountsOf(kernel, block, onFault) };
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      onFault(error);
    }
  }
}

const toBigIntOf = ({ hi, lo }: Pointer): bigint => toBigInt(hi, lo);

/** Returns the `struct vfsmount` of each mount that is in a mount namespace. */
function mountsOf(kernel: GuestKernel, block: StructAt, onFault: (error: unknown) => void): Pointer[] {
  const layout = MOUNT.resolve(kernel.btf);
  const { s_mounts } = SUPER_BLOCK.resolve(kernel.btf);
  const all: Pointer[] = [];
  if (layout.mnt_instance !== undefined) {
    for (const mount of listOf(
      kernel,
      add(block.at, s_mounts),
      layout.mnt_instance,
      "super_block.s_mounts",
      onFault,
    )) {
      if (all.length === MAX_MOUNTS) break;
      all.push(mount);
    }
  } else if (layout.mnt_next_for_sb !== undefined) {
    let mount = block.follow(s_mounts, "s_mounts");
    for (
      ;
      !mount.isNull && all.length < MAX_MOUNTS;
      mount = mount.follow(layout.mnt_next_for_sb, "mnt_next_for_sb")
    )
      all.push(mount.at);
  }
  return all
    .filter((mount) => {
      const namespace = new StructAt(kernel.memory, mount, "mount.").pointer(layout.mnt_ns, "mnt_ns");
      return !isNull(namespace) && toBigIntOf(namespace) < FIRST_ERROR;
    })
    .map((mount) => add(mount, layout.mnt));
}

interface Entry {
  readonly dentry: Pointer;
  readonly node: StructAt;
  /** Relative to the file system's root. */
  readonly path: string;
}

const NAME = struct("dentry", { name: at(ptr, "d_name.name") });
const MAX_NAME_BYTES = 256;

/** Yields every dentry below `root`, except those without an inode and unhashed ones, which are deleted. */
function* dentries(kernel: GuestKernel, root: Pointer, onFault: (error: unknown) => void): Generator<Entry> {
  const { memory, btf } = kernel;
  const layout = DENTRY.resolve(btf);
  const pending = [{ at: root, path: "" }];
  const seen = new Set<bigint>();
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    for (const child of childrenOf(kernel, directory.at, onFault)) {
      if (seen.size >= MAX_PATHS || seen.has(toBigIntOf(child))) return;
      seen.add(toBigIntOf(child));
      const dentry = new StructAt(memory, child, "dentry.");
      const node = dentry.follow(layout.d_inode, "d_inode");
      if (node.isNull || isNull(dentry.pointer(layout.hashed, "d_hash.pprev"))) continue;
      const path = `${directory.path}/${dentry.string(NAME.resolve(btf).name, "d_name.name", MAX_NAME_BYTES)}`;
      pending.push({ at: child, path });
      yield { dentry: child, node, path };
    }
  }
}

function* childrenOf(
  kernel: GuestKernel,
  directory: Pointer,
  onFault: (error: unknown) => void,
): Generator<Pointer> {
  const { memory, btf } = kernel;
  const { d_subdirs, d_child, d_children, d_sib, nextSibling } = DENTRY.resolve(btf);
  if (d_subdirs !== undefined && d_child !== undefined) {
    yield* listOf(kernel, add(directory, d_subdirs), d_child, "dentry.d_subdirs", onFault);
    return;
  }
  if (d_children === undefined || d_sib === undefined || nextSibling === undefined) return;
  let node = new StructAt(memory, directory, "dentry.").pointer(d_children, "d_children.first");
  for (let count = 0; !isNull(node) && count < MAX_PATHS; count++) {
    const child = add(node, -d_sib);
    yield child;
    node = new StructAt(memory, child, "dentry.").pointer(nextSibling, "d_sib.next");
  }
}
