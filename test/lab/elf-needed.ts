/** Finds the shared libraries that an ELF program needs: `DT_NEEDED` of its dynamic section, and its interpreter. */

const ptLoad = 1;
const ptDynamic = 2;
const ptInterp = 3;
const dtNeeded = 1;
const dtStrtab = 5;

export interface Needed {
  readonly libraries: readonly string[];
  readonly interpreter: string | undefined;
}

/** Reads 64-bit little-endian ELF. Other files need no libraries. */
export function neededBy(elf: Uint8Array): Needed {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (elf.length < 64 || view.getUint32(0, false) !== 0x7f454c46)
    return { libraries: [], interpreter: undefined };
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const segments = Array.from({ length: view.getUint16(56, true) }, (_, index) => {
    const at = u64(32) + index * view.getUint16(54, true);
    return { type: view.getUint32(at, true), offset: u64(at + 8), address: u64(at + 16), size: u64(at + 32) };
  });
  const text = (at: number): string => new TextDecoder().decode(elf.subarray(at, elf.indexOf(0, at)));
  const interp = segments.find((segment) => segment.type === ptInterp);
  const dynamic = segments.find((segment) => segment.type === ptDynamic);
  const interpreter = interp === undefined ? undefined : text(interp.offset);
  if (dynamic === undefined) return { libraries: [], interpreter };
  const names: number[] = [];
  let strings = 0;
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    const tag = u64(at);
    if (tag === dtNeeded) names.push(u64(at + 8));
    if (tag === dtStrtab) strings = u64(at + 8);
  }
  const holder = segments.find(
    ({ type, address, size }) => type === ptLoad && strings >= address && strings < address + size,
  );
  if (holder === undefined) return { libraries: [], interpreter };
  const base = strings - holder.address + holder.offset;
  return { libraries: names.map((name) => text(base + name)), interpreter };
}
