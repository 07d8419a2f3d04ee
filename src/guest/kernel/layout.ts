/**
 * Finds the layout of a single raw file. The file does not contain it, but the kernel has a tree of resources
 * (`/proc/iomem`). A few common layouts are tried until that tree can be read and matches.
 */
import type { Btf } from "../../btf/btf.ts";
import { ptr, struct, u64 } from "../../btf/struct.ts";
import type { Piece } from "../image/format.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";
import { requireSymbol, type Symbols } from "./symbols.ts";

/** A range of physical addresses; `end` is after the last byte. */
export interface PhysicalRange {
  readonly start: number;
  readonly end: number;
}

const GIB = 2 ** 30;
const FOUR_GIB = 2 ** 32;

/**
 * Returns the layouts to try for a file of this size, the most likely first. x86-64: QEMU's q35 has 2 GiB below 4 GiB if
 * there are more than 2.75, its `pc` 3 GiB if there are more than 3.5 (hw/i386/pc_q35.c, pc_piix.c: max_ram_below_4g), Cloud
 * Hypervisor 3, Firecracker 3 (older releases 3.25); all have the rest at 4 GiB. arm64: `virt` and Cloud Hypervisor start at 1
 * GiB (hw/arm/virt.c, base_memmap; arch/src/aarch64/layout.rs, RAM_START), Firecracker at 2 (src/vmm/src/arch/aarch64/layout.rs).
 */
export function layoutsToTry(machine: "x86_64" | "aarch64", sizeBytes: number): (readonly Piece[])[] {
  if (machine === "aarch64") return [GIB, 0, 2 * GIB, 1024 * GIB].map((base) => startingAt(base, sizeBytes));
  const splits = [2 * GIB, 3 * GIB, 3.5 * GIB, 3.25 * GIB].filter((low) => sizeBytes > low);
  return [startingAt(0, sizeBytes), ...splits.map((low) => withHole(low, sizeBytes))];
}

function startingAt(physical: number, length: number): readonly Piece[] {
  return [{ fileOffset: 0, physical, length }];
}

function withHole(low: number, sizeBytes: number): readonly Piece[] {
  return [
    { fileOffset: 0, physical: 0, length: low },
    { fileOffset: low, physical: FOUR_GIB, length: sizeBytes - low },
  ];
}

/**
 * Returns the layout that matches the kernel's RAM ranges, given the layout in which they were found: that one if it holds
 * them all, else one whose hole follows from the size of the memory above it (firmware reserves some RAM below the hole, so
 * the ranges there do not give its start). Undefined if neither fits.
 */
export function layoutFromRam(
  found: readonly Piece[],
  ram: readonly PhysicalRange[],
  sizeBytes: number,
): readonly Piece[] | undefined {
  const last = ram[ram.length - 1];
  if (last === undefined) return undefined;
  const low = sizeBytes - (last.end - FOUR_GIB);
  const isHoled = found[0]!.physical === 0 && last.start >= FOUR_GIB && low > 0 && low < sizeBytes;
  const layouts = isHoled ? [found, withHole(low, sizeBytes)] : [found];
  return layouts.find((layout) => ram.every((range) => layout.some((piece) => holds(piece, range))));
}

function holds({ physical, length }: Piece, { start, end }: PhysicalRange): boolean {
  return physical <= start && end <= physical + length;
}

/** Returns the physical address of an offset in a single raw file. */
export function addressOf(layout: readonly Piece[], fileOffset: number): number {
  const piece = layout.find(
    (each) => fileOffset >= each.fileOffset && fileOffset < each.fileOffset + each.length,
  );
  return piece === undefined ? fileOffset : piece.physical + fileOffset - piece.fileOffset;
}

/** Returns the offset in a single raw file of a physical address. */
export function offsetOf(layout: readonly Piece[], physical: number): number {
  const piece = layout.find((each) => physical >= each.physical && physical < each.physical + each.length);
  return piece === undefined ? physical : piece.fileOffset + physical - piece.physical;
}

/** "0x0 to 0x7fffffff and 0x100000000 to 0x13fffffff". */
export function describeLayout(layout: readonly Piece[]): string {
  const range = ({ physical, length }: Piece): string =>
    `0x${physical.toString(16)} to 0x${(physical + length - 1).toString(16)}`;
  return layout.map(range).join(" and ");
}

const RESOURCE = struct("resource", { start: u64, end: u64, name: ptr, sibling: ptr, child: ptr });
/** Limit: /proc/iomem of a large server has a few thousand lines, of which a few hundred are on the top level. */
const MAX_RESOURCES = 65_536;
const RAM_NAME = "System RAM";

/**
 * Returns the ranges named "System RAM" on the top level of `iomem_resource` (kernel/resource.c), ascending. Throws
 * `GuestFault` if the list cannot be followed: the layout is then wrong.
 */
export function readRamRanges(memory: GuestMemory, symbols: Symbols, btf: Btf): PhysicalRange[] {
  const offsets = RESOURCE.resolve(btf);
  const root = requireSymbol(symbols, "iomem_resource");
  const ranges: PhysicalRange[] = [];
  let path = "iomem_resource.child";
  let at: Pointer = memory.pointer(root.hi, root.lo, offsets.child, path);
  for (let count = 0; !isNull(at) && count < MAX_RESOURCES; count++) {
    const name = memory.pointer(at.hi, at.lo, offsets.name, path);
    const text = memory.cstring(name.hi, name.lo, 0, RAM_NAME.length + 1, `${path}.name`);
    if (Buffer.from(text).toString("latin1") === RAM_NAME)
      ranges.push({
        start: Number(memory.u64(at.hi, at.lo, offsets.start, path)),
        end: Number(memory.u64(at.hi, at.lo, offsets.end, path)) + 1,
      });
    path = "iomem_resource.child -> sibling";
    at = memory.pointer(at.hi, at.lo, offsets.sibling, path);
  }
  return ranges;
}
