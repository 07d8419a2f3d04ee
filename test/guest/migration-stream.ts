/** Migration streams, written by hand as QEMU's migration/savevm.c and ram.c write them. */

export const PAGE = 4096;

export const u8 = (value: number): Buffer => Buffer.from([value]);
export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
export const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
const name = (text: string): Buffer => Buffer.concat([u8(text.length), Buffer.from(text)]);

export const EOS: Buffer = u64(0x10);
export const footer: Buffer = Buffer.concat([u8(0x7e), u32(2)]);
export const part: Buffer = Buffer.concat([u8(2), u32(2)]);
export const end: Buffer = Buffer.concat([u8(3), u32(2)]);

export interface HeaderOptions {
  readonly machine?: string;
  /** Parts of the configuration: name and contents. */
  readonly parts?: readonly (readonly [string, Buffer])[];
  readonly blocks: readonly (readonly [string, number])[];
}

/** Writes a stream up to the list of blocks. */
export function header({ machine = "pc-q35-7.2", parts = [], blocks }: HeaderOptions): Buffer {
  const configuration = [u8(7), u32(machine.length), Buffer.from(machine)];
  for (const [what, contents] of parts) configuration.push(u8(5), name(what), u32(1), contents);
  const total = blocks.reduce((sum, [, length]) => sum + length, 0);
  return Buffer.concat([
    Buffer.from("QEVM"),
    u32(3),
    ...(machine === "" ? [] : configuration),
    ...[u8(1), u32(2), name("ram"), u32(0), u32(4)],
    u64(total + 0x04),
    ...blocks.flatMap(([block, length]) => [name(block), u64(length)]),
  ]);
}

/** Start of the pages of `mappedHeader`'s block: QEMU rounds up to 1 MiB. */
export const MAPPED_AT: number = 2 ** 20;

/**
 * Writes a stream with mapped-ram and one block of RAM, up to the end of its pages. `pages` are filled with a byte, or not in the
 * file. `before`: bytes of the file before the stream, as in libvirt's files.
 */
export function mapped(pages: readonly (number | undefined)[], before = 0, version = 1): Buffer {
  const capability = Buffer.concat([u32(1), name("mapped-ram")]);
  const length = pages.length * PAGE;
  const head = header({ parts: [["configuration/capabilities", capability]], blocks: [["pc.ram", length]] });
  const bitmapAt = before + head.length + 28;
  const bitmap = Buffer.alloc(Math.ceil(pages.length / 64) * 8);
  pages.forEach((byte, index) => {
    if (byte !== undefined) bitmap[index >> 3]! |= 1 << (index & 7);
  });
  const start = Buffer.concat([head, u32(version), u64(PAGE), u64(bitmapAt), u64(MAPPED_AT), bitmap]);
  // At the place of a page that is not in the bitmap the file has an older copy.
  const data = pages.map((byte) => Buffer.alloc(PAGE, byte ?? 0xee));
  return Buffer.concat([start, Buffer.alloc(MAPPED_AT - before - start.length), ...data]);
}

/** Writes a record of a page. `block` is undefined if it is that of the record before. */
export function page(offset: number, contents: number | Uint8Array, block?: string, flags = 0): Buffer {
  const kind = flags === 0 ? (typeof contents === "number" ? 0x02 : 0x08) : flags;
  return Buffer.concat([
    u64(offset + kind + (block === undefined ? 0x20 : 0)),
    ...(block === undefined ? [] : [name(block)]),
    typeof contents === "number" ? u8(contents) : contents,
  ]);
}
