/** Writes BTF, for shapes that no compiler emits. Ids count from `firstId` in the order of the calls. */
import { BTF_KIND, BTF_MAGIC } from "../../../src/uapi/btf.ts";

export class BtfWriter {
  readonly #words: number[] = [];
  #strings = "\0";
  readonly #stringStart: number;
  readonly #firstId: number;
  #count = 0;

  constructor(
    base: { readonly firstId: number; readonly stringStart: number } = { firstId: 1, stringStart: 0 },
  ) {
    this.#firstId = base.firstId;
    this.#stringStart = base.stringStart;
    if (base.stringStart > 0) this.#strings = "";
  }

  /** Id of the next type, for types that refer to themselves. */
  get nextId(): number {
    return this.#firstId + this.#count;
  }

  /** Returns the offset of a string, for fields that no method writes. */
  string(text: string): number {
    if (text === "") return 0;
    const at = this.#strings.length;
    this.#strings += `${text}\0`;
    return this.#stringStart + at;
  }

  /** Writes a record with these words unchanged. */
  raw(
    kind: number,
    name: string,
    sizeOrType: number,
    rest: readonly number[] = [],
    vlen = 0,
    flag = false,
  ): number {
    const info = ((flag ? 0x8000_0000 : 0) | (kind << 24) | vlen) >>> 0;
    this.#words.push(this.string(name), info, sizeOrType, ...rest);
    return this.#firstId + this.#count++;
  }

  int(name: string, size: number, encoding = 0, bits: number = size * 8, offset = 0): number {
    return this.raw(BTF_KIND.INT, name, size, [((encoding << 24) | (offset << 16) | bits) >>> 0]);
  }

  pointer(to: number): number {
    return this.raw(BTF_KIND.PTR, "", to);
  }

  typedef(name: string, to: number): number {
    return this.raw(BTF_KIND.TYPEDEF, name, to);
  }

  array(element: number, count: number, index = 0): number {
    return this.raw(BTF_KIND.ARRAY, "", 0, [element, index, count]);
  }

  /** Members are [name, type, bit offset, bit-field size]; the kind flag is set if any has a bit-field size. */
  struct(
    name: string,
    size: number,
    members: readonly (readonly [string, number, number, number?])[],
    kind = 4,
  ): number {
    const flag = members.some((member) => (member[3] ?? 0) > 0);
    const rest = members.flatMap(([member, type, offset, bits = 0]) => [
      this.string(member),
      type,
      (flag ? offset | (bits << 24) : offset) >>> 0,
    ]);
    return this.raw(kind, name, size, rest, members.length, flag);
  }

  bytes(): Uint8Array {
    const strings = new TextEncoder().encode(this.#strings);
    const typeLength = this.#words.length * 4;
    const out = new Uint8Array(24 + typeLength + strings.length);
    const view = new DataView(out.buffer);
    view.setUint16(0, BTF_MAGIC, true);
    out[2] = 1;
    [24, 0, typeLength, typeLength, strings.length].forEach((word, n) => {
      view.setUint32(4 + 4 * n, word, true);
    });
    this.#words.forEach((word, n) => {
      view.setUint32(24 + 4 * n, word, true);
    });
    out.set(strings, 24 + typeLength);
    return out;
  }
}
