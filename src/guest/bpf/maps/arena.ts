/**
 * Reads `struct bpf_arena`: pages shared by programs and user space. The page at user address `user_vm_start + i * page` is at
 * the arena's kernel base plus the low 32 bits of that address (kernel/bpf/arena.c; the JIT adds them), in an area of 4 GiB
 * with half a guard area on each side.
 */
import { optional, place, ptr, struct, u32, u64 } from "../../../btf/struct.ts";
import { type ArenaPage, type ArenaPages, found, type Read, unreadable } from "../../../state.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { add, isNull, type Pointer } from "../../memory/pointer.ts";
import { forEachPresentPage } from "./present-pages.ts";
import { attempt, CorruptMap, type GuestMap } from "./walk.ts";

const SPAN_MAX_BYTES = 2 ** 32;
const PAGES_MAX = 16_384;

const BPF_ARENA = struct("bpf_arena", {
  user_vm_start: u64,
  kern_vm: ptr,
  rt: optional(place, "since 6.13; a maple tree before"),
});
const VM_STRUCT = struct("vm_struct", { addr: ptr, size: u64 });
/** kernel/bpf/range_tree.c: the free ranges in pages, including both ends. */
const RANGE_NODE = struct("range_node", { rn_rbnode: place, rn_start: u32, rn_last: u32 });
const RANGE_TREE = struct("range_tree", { it_root: place });
const RB_NODE = struct("rb_node", { rb_right: ptr, rb_left: ptr });

/** Addresses of the page with index 0, in the kernel and in user space. */
export interface ArenaStart {
  readonly kernel: Pointer;
  readonly user: bigint;
}

/** Throws `GuestFault`, and `CorruptMap` if the area does not have the size of an arena. */
export function arenaStart({ memory, btf }: GuestKernel, map: GuestMap): ArenaStart {
  const { hi, lo } = map.at;
  const path = `map ${map.info.id}`;
  const arena = BPF_ARENA.resolve(btf);
  const area = VM_STRUCT.resolve(btf);
  const user = memory.u64(hi, lo, arena.user_vm_start, `${path}.user_vm_start`);
  const vm = memory.pointer(hi, lo, arena.kern_vm, `${path}.kern_vm`);
  const address = memory.pointer(vm.hi, vm.lo, area.addr, `${path}.kern_vm.addr`);
  const size = memory.u64(vm.hi, vm.lo, area.size, `${path}.kern_vm.size`);
  // GUARD_SZ is 64 KiB, rounded up to a multiple of two pages. get_vm_area() adds another guard page.
  const pageBytes = 1 << memory.tables.mode.pageShift;
  const guard = Number(size) - SPAN_MAX_BYTES - pageBytes;
  if (guard !== Math.max(65_536, 2 * pageBytes))
    throw new CorruptMap(`${path}: its area has ${size} bytes, which is not an arena's size`);
  return { kernel: add(address, guard / 2 + Number(user & 0xffff_ffffn)), user };
}

/** Returns every allocated page, by ascending index. */
export function arenaPages(kernel: GuestKernel, map: GuestMap): Read<ArenaPages> {
  if (map.info.type !== MapType.arena) return unreadable("wrong-type", "not an arena");
  return attempt(() => {
    const { memory } = kernel;
    const { mode } = memory.tables;
    const pageSize = 1 << mode.pageShift;
    const wanted = map.info.maxEntries * pageSize;
    const spanBytes = Math.min(wanted, SPAN_MAX_BYTES);
    const pageCount = spanBytes / pageSize;
    const start = arenaStart(kernel, map);
    const free = freePages(kernel, map, pageCount);
    const pages: ArenaPage[] = [];
    let truncated = false;
    let missing = 0;
    const visit = (index: number, physical: number): boolean => {
      if (pages.length === PAGES_MAX) {
        truncated = true;
        return false;
      }
      const bytes = new Uint8Array(pageSize);
      if (memory.physical.copyOut(physical, bytes) < pageSize) missing++;
      else pages.push({ index, userAddress: start.user + BigInt(index * pageSize), bytes });
      return true;
    };
    for (let first = 0; first < pageCount && !truncated; ) {
      const next = free.indexOf(1, first);
      const end = next < 0 ? pageCount : next;
      forEachPresentPage(memory, start.kernel, first, end, visit);
      const used = free.indexOf(0, end);
      first = used < 0 ? pageCount : used;
    }
    const shape = { pageSize, spanBytes, spanCapped: wanted > SPAN_MAX_BYTES, truncated, pages };
    return found(missing === 0 ? shape : { ...shape, missingPages: missing });
  });
}

/** A tree of n ranges has n nodes, and an arena at most this many pages. */
const MAX_NODES = SPAN_MAX_BYTES / 4096;

/**
 * Marks the pages that are free in `struct range_tree`. In 7.2, an access of a program to a free page maps a "scratch page"
 * there, which is present in the page table but not part of the arena. Kernels without the tree have no scratch pages; then
 * nothing is marked, and the page table alone is used.
 */
function freePages({ memory, btf }: GuestKernel, map: GuestMap, pageCount: number): Uint8Array {
  const { rt } = BPF_ARENA.resolve(btf);
  const free = new Uint8Array(pageCount);
  if (rt === undefined) return free;
  const node = RANGE_NODE.resolve(btf);
  const link = RB_NODE.resolve(btf);
  // struct rb_root_cached starts with struct rb_root, which is the pointer to the root node.
  const root = rt + RANGE_TREE.resolve(btf).it_root;
  const pending = [memory.pointer(map.at.hi, map.at.lo, root, `map ${map.info.id}.rt`)];
  for (let steps = 0; steps < MAX_NODES; steps++) {
    const top = pending.pop();
    if (top === undefined) break;
    if (isNull(top)) continue;
    const at = memory.locate(top.hi, top.lo, -node.rn_rbnode, node.sizeof);
    if (at < 0) continue;
    const { view } = memory;
    const first = view.getUint32(at + node.rn_start, true);
    const last = Math.min(view.getUint32(at + node.rn_last, true), pageCount - 1);
    // A visited range is marked, so that the walk of a cyclic tree ends.
    if (first <= last && free[first] === 0) free.fill(1, first, last + 1);
    else continue;
    for (const side of [link.rb_left, link.rb_right])
      pending.push({
        hi: view.getInt32(at + node.rn_rbnode + side + 4, true),
        lo: view.getInt32(at + node.rn_rbnode + side, true),
      });
  }
  return free;
}
