/**
 * Reads the pages of an arena of the running kernel without allocating any. The arena is not mapped into this process, because
 * a user fault on an absent page allocates it, or kills the process (kernel/bpf/arena.c, `arena_vm_fault`), and mincore(2)
 * reports no pages of a fresh mapping. peek.ts reads the kernel's own mapping, where an absent page is an error.
 */
import type { Btf } from "../btf/btf.ts";
import { optional, place, ptr, struct, u32, u64 } from "../btf/struct.ts";
import { KtstrError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import { type ArenaPage, type ArenaPages, found, type MapInfo, type Read, unreadable } from "../state.ts";
import { CHUNK_BYTES, CHUNKS, KernelPeek, PeekRefusedError } from "./peek.ts";
import type { Sys } from "./sys.ts";

const ARENA_SPAN_MAX: number = 2 ** 32;
const ARENA_PAGES_MAX: number = 16_384;

/** kernel/bpf/arena.c. `rt` tracks the free pages since 6.13; before, a maple tree did. */
const BPF_ARENA = struct("bpf_arena", {
  user_vm_start: u64,
  kern_vm: ptr,
  rt: optional(place, "since 6.13"),
});
const VM_STRUCT = struct("vm_struct", { addr: ptr });
/** kernel/bpf/range_tree.c: a free range in pages, inclusive. */
const RANGE_NODE = struct("range_node", { rn_rbnode: place, rn_start: u32, rn_last: u32 });
const RANGE_TREE = struct("range_tree", { it_root: place });
const RB_NODE = struct("rb_node", { rb_right: ptr, rb_left: ptr });

/** An inclusive range of pages. */
interface Range {
  readonly first: number;
  readonly last: number;
}

/**
 * Returns the allocated pages by ascending address. A page is allocated if its memory is present and, since 6.13, the range
 * tree does not list it as free. The tree lists as free the places where 7.2 maps a scratch page after a program's fault.
 * Without CAP_BPF and CAP_PERFMON the result is unreadable with the reason.
 */
export function readArena(sys: Sys, fd: Fd, map: MapInfo, btf: () => Btf): Read<ArenaPages> {
  const pageSize = sys.pageSize();
  const wanted = map.maxEntries * pageSize;
  const spanBytes = Math.min(wanted, ARENA_SPAN_MAX);
  const shape = { pageSize, spanBytes, spanCapped: wanted > ARENA_SPAN_MAX };
  try {
    using peek = KernelPeek.open(sys, fd);
    const types = btf();
    const arena = BPF_ARENA.resolve(types);
    const userStart = readU64(peek, peek.mapAddress + BigInt(arena.user_vm_start));
    const area = readU64(peek, peek.mapAddress + BigInt(arena.kern_vm));
    const base = readU64(peek, area + BigInt(VM_STRUCT.resolve(types).addr)) + guardBytes(pageSize) / 2n;
    const pageCount = spanBytes / pageSize;
    const free =
      arena.rt === undefined ? [] : freeRanges(peek, types, peek.mapAddress + BigInt(arena.rt), pageCount);
    const { pages, truncated } = readPages(peek, base, userStart, pageSize, complement(free, pageCount));
    return found({ ...shape, pages, truncated });
  } catch (error) {
    if (error instanceof PeekRefusedError && error.log.includes("user address must be set")) {
      // No process has mapped the arena, so no program was loaded with it: it has no pages.
      return found({ ...shape, pages: [], truncated: false });
    }
    if (!(error instanceof KtstrError)) throw error;
    const why =
      "mapping an arena to read it would allocate its absent pages, and reading the kernel's own mapping failed";
    return unreadable(
      "not-permitted",
      `${why}: ${error.message}${error.hint === "" ? "" : `; ${error.hint}`}`,
    );
  }
}

/** `GUARD_SZ` of kernel/bpf/arena.c: the reach of an s16 offset, rounded up to a multiple of two pages; half on each side. */
function guardBytes(pageSize: number): bigint {
  return BigInt(Math.ceil(65_536 / (2 * pageSize)) * 2 * pageSize);
}

function readU64(peek: KernelPeek, address: bigint): bigint {
  const view = peek.read(address, 8);
  if (view === undefined)
    throw new KtstrError(`the kernel's memory at 0x${address.toString(16)} cannot be read`);
  return view.getBigUint64(0, true);
}

/** Limit on visited nodes. A tree has a node per free range, and an arena has at most this many pages. */
const MAX_NODES = ARENA_SPAN_MAX / 4096;

/** Walks `struct range_tree`. It may change during the walk: the walk is bounded and skips nodes that are gone. */
function freeRanges(peek: KernelPeek, btf: Btf, tree: bigint, pageCount: number): Range[] {
  const node = RANGE_NODE.resolve(btf);
  const link = RB_NODE.resolve(btf);
  // struct rb_root_cached begins with struct rb_root, the pointer to the root node.
  const pending = [readU64(peek, tree + BigInt(RANGE_TREE.resolve(btf).it_root))];
  const ranges: Range[] = [];
  for (let steps = 0; pending.length > 0 && steps < MAX_NODES; steps++) {
    const at = pending.pop() as bigint;
    if (at === 0n) continue;
    const view = peek.read(at - BigInt(node.rn_rbnode), node.sizeof);
    if (view === undefined) continue;
    const first = view.getUint32(node.rn_start, true);
    const last = Math.min(view.getUint32(node.rn_last, true), pageCount - 1);
    if (first <= last) ranges.push({ first, last });
    pending.push(view.getBigUint64(node.rn_rbnode + link.rb_left, true));
    pending.push(view.getBigUint64(node.rn_rbnode + link.rb_right, true));
  }
  return ranges.sort((a, b) => a.first - b.first);
}

function complement(free: readonly Range[], pageCount: number): Range[] {
  const used: Range[] = [];
  let next = 0;
  for (const { first, last } of free) {
    if (first > next) used.push({ first: next, last: first - 1 });
    next = Math.max(next, last + 1);
  }
  if (next < pageCount) used.push({ first: next, last: pageCount - 1 });
  return used;
}

function readPages(
  peek: KernelPeek,
  base: bigint,
  userStart: bigint,
  pageSize: number,
  candidates: readonly Range[],
): { pages: ArenaPage[]; truncated: boolean } {
  const pages: ArenaPage[] = [];
  const chunksPerPage = pageSize / CHUNK_BYTES;
  const pagesPerRun = Math.max(1, Math.floor(CHUNKS / chunksPerPage));
  for (const { first, last } of candidates) {
    for (let index = first; index <= last; index += pagesPerRun) {
      const count = Math.min(pagesPerRun, last - index + 1);
      const user = userStart + BigInt(index * pageSize);
      // The kernel's address of a page is the base plus the low 32 bits of its user address.
      peek.readChunks(base + (user & 0xffff_ffffn), count * chunksPerPage);
      for (let n = 0; n < count; n++) {
        const bytes = assemble(peek, n * chunksPerPage, chunksPerPage);
        if (bytes === undefined) continue;
        if (pages.length === ARENA_PAGES_MAX) return { pages, truncated: true };
        pages.push({ index: index + n, userAddress: user + BigInt(n * pageSize), bytes });
      }
    }
  }
  return { pages, truncated: false };
}

function assemble(peek: KernelPeek, firstChunk: number, count: number): Uint8Array | undefined {
  const bytes = new Uint8Array(count * CHUNK_BYTES);
  for (let n = 0; n < count; n++) {
    const chunk = peek.chunk(firstChunk + n);
    if (chunk === undefined) return undefined;
    bytes.set(chunk, n * CHUNK_BYTES);
  }
  return bytes;
}
