/** Damages a memory file, reproducibly by seed, and undoes the damage after each round, so that thousands of rounds need only one copy. */
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { KtstrError } from "../../src/errors.ts";
import { EHDR, PHDR } from "../../src/uapi/elf.ts";
import { viewOf } from "../../src/uapi/layout.ts";

/** A range of the file that readers read: a table, a struct, a page of page tables. */
export interface Place {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
}

const ROUND_MS = 20_000;
const WORDS = [0, 1, 2, 0xffff_ffff, 0x7fff_ffff, 0x8000_0000, 65_536] as const;

export class Mutator implements Disposable {
  readonly #fd: number;
  readonly #sizeBytes: number;
  readonly #places: readonly Place[];
  #state: number;
  #undo: (readonly [number, Buffer])[] = [];
  /** The longest of all rounds, in milliseconds. */
  longestMs = 0;

  /** `seed` selects the damage; it must not be 0. */
  constructor(path: string, places: readonly Place[], seed: number) {
    this.#fd = openSync(path, "r+");
    this.#sizeBytes = fstatSync(this.#fd).size;
    this.#places = places.filter(({ offset, length }) => offset >= 0 && offset + length <= this.#sizeBytes);
    this.#state = seed | 0;
  }

  /** Returns an integer from 0 to `below`-1 (xorshift32). */
  random(below: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % below;
  }

  /** Damages up to four places, and returns a description. */
  damage(): string {
    const told: string[] = [];
    for (let count = 1 + this.random(4); count > 0; count--) {
      const place = this.#places[this.random(this.#places.length)]!;
      const bytes = this.#bytes();
      const within = this.random(place.length);
      const offset = place.offset + (bytes.length === 8 ? within - (within % 8) : within);
      if (offset + bytes.length > this.#sizeBytes) continue;
      const before = Buffer.alloc(bytes.length);
      readSync(this.#fd, before, 0, before.length, offset);
      this.#undo.push([offset, before]);
      writeSync(this.#fd, bytes, 0, bytes.length, offset);
      told.push(`${place.name}+${offset - place.offset}=${bytes.toString("hex")}`);
    }
    return told.join(" ");
  }

  /** Writes a byte, a 32-bit word, 8 equal bytes, 8 bytes of another place, 8 random bytes or 64 random bytes. */
  #bytes(): Buffer {
    const kind = this.random(6);
    if (kind === 0) return Buffer.from([this.random(256)]);
    if (kind === 1) return Buffer.from(new Uint32Array([WORDS[this.random(WORDS.length)]!]).buffer);
    if (kind === 2) return Buffer.alloc(8, this.random(2) === 0 ? 0 : 0xff);
    if (kind === 3) return Buffer.from(Uint8Array.from({ length: 64 }, () => this.random(256)));
    const bytes = Buffer.from(Uint8Array.from({ length: 8 }, () => this.random(256)));
    const { offset, length } = this.#places[this.random(this.#places.length)]!;
    if (kind === 4) readSync(this.#fd, bytes, 0, 8, offset + (this.random(length) & ~7));
    return bytes;
  }

  /**
   * Damages, reads and undoes this many times, and returns the number of each outcome. `read` returns an outcome; a KtstrError is
   * the outcome "error". Any other error, and a round of more than 20 seconds, is thrown with the description of the damage.
   */
  rounds(count: number, read: () => string): ReadonlyMap<string, number> {
    const outcomes = new Map<string, number>();
    for (let round = 0; round < count; round++) {
      const damage = `round ${round}: ${this.damage()}`;
      const start = performance.now();
      let outcome = "error";
      try {
        outcome = read();
      } catch (error) {
        if (!(error instanceof KtstrError))
          throw new Error(`${String(error)} after ${damage}`, { cause: error });
      }
      const tookMs = performance.now() - start;
      this.longestMs = Math.max(this.longestMs, tookMs);
      if (tookMs > ROUND_MS) throw new Error(`${tookMs} ms after ${damage}`);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      this.undo();
    }
    return outcomes;
  }

  /** Undoes the damage. */
  undo(): void {
    for (const [offset, bytes] of this.#undo.reverse()) writeSync(this.#fd, bytes, 0, bytes.length, offset);
    this.#undo = [];
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** Returns a function from a physical address to its offset in an ELF core. */
export function offsetsIn(path: string): (physical: number) => number {
  const view = viewOf(readFileSync(path));
  const count = view.getUint16(EHDR.fields.phnum.offset, true);
  const field = (index: number, name: "offset" | "paddr" | "filesz"): number =>
    Number(view.getBigUint64(EHDR.size + index * PHDR.size + PHDR.fields[name].offset, true));
  return (physical) => {
    for (let index = 1; index < count; index++) {
      const within = physical - field(index, "paddr");
      if (within >= 0 && within < field(index, "filesz")) return field(index, "offset") + within;
    }
    return -1;
  };
}
