/** Mutates real BTF, reproducibly by seed, and makes every query on the result. */
import { bpftoolJson } from "../../../src/btf/bpftool.ts";
import { Btf } from "../../../src/btf/btf.ts";
import { cDump } from "../../../src/btf/c.ts";
import { checkLayout } from "../../../src/btf/check-layout.ts";
import { declaration } from "../../../src/btf/declare.ts";
import { rawJson, rawText } from "../../../src/btf/raw.ts";
import { optional, struct, u32 } from "../../../src/btf/struct.ts";
import { valueText } from "../../../src/btf/text.ts";
import { plainValue } from "../../../src/btf/value.ts";
import { KtstrError } from "../../../src/errors.ts";
import { layout, u32 as u32At } from "../../../src/uapi/layout.ts";

/** Returns numbers below `limit`, from Marsaglia's xorshift. */
function random(seed: number): (limit: number) => number {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

const AWKWARD = [0, 1, 2, 0x7f, 0xff, 0xffff, 0xff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/** Makes one to eight changes: bytes, words, ids of other types, kinds, copies of ranges, a truncation. */
export function mutate(original: Uint8Array, seed: number): Uint8Array {
  const next = random(seed);
  let bytes = original.slice();
  const typeEnd = 24 + new DataView(original.buffer, original.byteOffset).getUint32(12, true);
  for (let changes = 1 + next(8); changes > 0; changes--) {
    const view = new DataView(bytes.buffer);
    // Most changes are in the types: the strings are a third of the bytes, and changes there find few errors.
    const at =
      4 *
      next(Math.max(1, Math.floor((next(4) === 0 ? bytes.length : Math.min(typeEnd, bytes.length)) / 4) - 1));
    switch (next(7)) {
      case 0:
        bytes[at + next(4)] = next(256);
        break;
      case 1:
        view.setUint32(at, AWKWARD[next(AWKWARD.length)]!, true);
        break;
      case 2:
      case 3:
        view.setUint32(at, next(120), true);
        break;
      case 4:
        bytes[at + 3] = next(24) | (next(2) << 7);
        break;
      case 5: {
        const from = 4 * next(Math.floor(bytes.length / 4));
        bytes.copyWithin(at, from, from + 4 * next(16));
        break;
      }
      default:
        if (next(8) === 0) bytes = bytes.slice(0, next(bytes.length) + 1);
        else bytes[at] = bytes[at]! ^ (1 << next(8));
    }
    if (bytes.length < 8) break;
  }
  return bytes;
}

/** Makes every query. Every `KtstrError` is counted; any other error is thrown. */
export function exercise(bytes: Uint8Array): { parsed: boolean; answered: number; refused: number } {
  let answered = 0;
  let refused = 0;
  const attempt = (ask: () => unknown): void => {
    try {
      ask();
      answered++;
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      refused++;
    }
  };
  let btf: Btf | undefined;
  attempt(() => {
    btf = Btf.parse(bytes, { name: "fuzzed" });
  });
  if (btf === undefined) return { parsed: false, answered, refused };
  const types = btf;
  const value = Uint8Array.from({ length: 256 }, (_, n) => (n * 37) & 0xff);
  for (let id = 0; id < types.typeCount; id++) {
    attempt(() => types.find(types.typeName(id), types.kind(id)));
    attempt(() => types.sizeOf(id));
    attempt(() => [...types.members(id)].map(({ name }) => types.member(id, `${name}.x[1].as_number`)));
    attempt(() => types.member(id, "no_such_member"));
    attempt(() => declaration(types, id, "x"));
    attempt(() => bpftoolJson(types, id, value));
    attempt(() => plainValue(types, id, value));
    attempt(() => valueText(types, id, value, { types: true }));
  }
  attempt(() => drain(rawJson(types)));
  attempt(() => drain(rawText(types)));
  attempt(() => drain(cDump(types)));
  attempt(() =>
    struct("everything", { u8: u32, "bits.nine": optional(u32, "since 9"), inside: u32 }).resolve(types),
  );
  attempt(() => checkLayout(types, layout("struct everything", 64, { u32: u32At(0), as_number: u32At(4) })));
  return { parsed: true, answered, refused };
}

/** Consumes all pieces without keeping them. */
function drain(pieces: Iterable<string>): void {
  for (const piece of pieces) void piece;
}
