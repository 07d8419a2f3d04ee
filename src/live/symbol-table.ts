/** Resolves any address of the running kernel to symbol and offset, with a sorted copy of `/proc/kallsyms`. */
import type { Sys } from "./sys.ts";

const PATH = "/proc/kallsyms";
const DIGITS = 16;
/** kallsyms has no sizes: an address more than this many bytes after a symbol is not attributed to it. */
const MAX_OFFSET_KERNEL = 2 ** 20;
const MAX_OFFSET_LOADED = 2 ** 16;
/** The kernel, its modules and programs are in the highest 2^52 bytes: offsets from here are exact as doubles. */
const LOWEST = 2n ** 64n - 2n ** 52n;

export class SymbolTable {
  readonly #text: string;
  /** Addresses as ascending offsets from `LOWEST`. */
  readonly #places: Float64Array;
  /** Offset in the text of each symbol's line. */
  readonly #lines: Uint32Array;

  private constructor(text: string, places: Float64Array, lines: Uint32Array) {
    this.#text = text;
    this.#places = places;
    this.#lines = lines;
  }

  /** Without CAP_SYSLOG every address reads as zero, and the table is empty. */
  static read(sys: Sys): SymbolTable {
    const bytes = sys.readFile(PATH) ?? new Uint8Array();
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
    const places: number[] = [];
    const lines: number[] = [];
    for (let start = 0; start < text.length; start = nextLine(text, start)) {
      const high = Number.parseInt(text.slice(start, start + 8), 16);
      const low = Number.parseInt(text.slice(start + 8, start + DIGITS), 16);
      // 0xfff00000 is the upper half of LOWEST.
      if (!(high >= 0xfff0_0000)) continue;
      places.push((high - 0xfff0_0000) * 2 ** 32 + low);
      lines.push(start);
    }
    const order = Uint32Array.from(places.keys());
    // The first of several aliases in the file is found.
    order.sort((a, b) => places[a]! - places[b]! || a - b);
    return new SymbolTable(
      text,
      Float64Array.from(order, (index) => places[index]!),
      Uint32Array.from(order, (index) => lines[index]!),
    );
  }

  /** True if no address is known: /proc is not mounted, or CAP_SYSLOG is missing. */
  get isEmpty(): boolean {
    return this.#places.length === 0;
  }

  /** Returns "schedule+0x10", "dummy_xmit [dummy]" or "bpf_prog_0123456789abcdef_enqueue [bpf]"; undefined if none is near. */
  at(address: bigint): string | undefined {
    if (address < LOWEST || address >= 2n ** 64n) return undefined;
    const place = Number(address - LOWEST);
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#places[middle]! <= place) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    let index = low - 1;
    while (index > 0 && this.#places[index - 1] === this.#places[index]) index--;
    const start = this.#lines[index]!;
    const [, name, module] =
      /^[0-9a-f]+ \S (\S+)(?:\s+\[(.*)\])?/.exec(this.#text.slice(start, nextLine(this.#text, start))) ?? [];
    const offset = place - this.#places[index]!;
    if (name === undefined || offset > (module === undefined ? MAX_OFFSET_KERNEL : MAX_OFFSET_LOADED))
      return undefined;
    return `${name}${offset === 0 ? "" : `+0x${offset.toString(16)}`}${module === undefined ? "" : ` [${module}]`}`;
  }
}

function nextLine(text: string, start: number): number {
  const end = text.indexOf("\n", start);
  return end < 0 ? text.length : end + 1;
}
