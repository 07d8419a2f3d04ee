/**
 * Reads the kernel's symbol table in memory (written by scripts/kallsyms.c, read by kernel/kallsyms.c).
 *
 * A name is stored as a string of tokens of one byte each. A lookup bisects the kernel's list of symbols by name (since 6.2)
 * and decodes about 18 names. If that list is missing or invalid, one pass over all names stores a 32-bit hash of each,
 * computed from the hashes of its tokens, and lookups search the hashes. The pass takes 10 ms.
 */
import { FormatError } from "../../errors.ts";
import { compileEarly } from "../../jit-threshold.ts";
import { viewOf } from "../../uapi/layout.ts";
import type { GuestMemory, LazyBytes } from "../memory/memory.ts";
import { add, distance, fromBigInt, isBelow, type Pointer, toBigInt } from "../memory/pointer.ts";
import { type NameOrder, nameOrders } from "./kallsyms-order.ts";
import { HASH_BASE, hashBytes, type NearSymbol, type Symbols } from "./symbols.ts";

/** Addresses of the tables and of `_stext`, by name: from VMCOREINFO or from a search. */
export interface KallsymsPlaces {
  symbol(name: string): bigint | undefined;
}

/** Limit: a kernel has about 200,000 symbols. */
const MAX_SYMBOLS = 2 ** 22;
const MAX_NAME_TABLE_BYTES = 64 * 2 ** 20;
/** KSYM_NAME_LEN. */
const MAX_NAME_BYTES = 512;
const MARK_SHIFT = 8;
const MARK_EVERY = 256;

/** How an address is computed from `kallsyms_offsets[i]` (kernel/kallsyms.c, kallsyms_sym_address). */
type AddressRule =
  | "self-relative" // relative to the offset's own address: 7.2
  | "base-relative" // unsigned, relative to kallsyms_relative_base: arm64 in 6.1 and 6.12
  | "absolute-percpu"; // negative: relative to the base; else an absolute per-CPU symbol: x86-64 in 6.1 and 6.12

export class Kallsyms implements Symbols {
  readonly source = "kallsyms";
  /** Address of the names. */
  readonly at: Pointer;
  readonly count: number;
  readonly #names: LazyBytes;
  readonly #tokens: readonly string[];
  readonly #offsetTable: LazyBytes;
  readonly #offsets: DataView;
  readonly #offsetsAt: Pointer;
  readonly #base: Pointer | undefined;
  readonly #rule: AddressRule;
  /** Symbol indexes sorted by name, as big-endian u24; undefined if the kernel has no such list. */
  #sequences: LazyBytes | undefined;
  /** Offset of every 256th name. */
  #marks: Uint32Array = new Uint32Array(0);
  /** Results of look-ups by name. */
  readonly #found = new Map<string, Pointer | undefined>();
  /** Hash per symbol, by ascending address. Only used without `#sequences`. */
  #hashes: Uint32Array = new Uint32Array(0);

  /**
   * Reads the tables whose addresses are in VMCOREINFO (since 6.0), or that a search found. `_stext` may be unknown. Throws
   * `FormatError` if they are inconsistent, `GuestFault` if they are not in the image.
   */
  constructor(memory: GuestMemory, info: KallsymsPlaces) {
    const names = required(info, "kallsyms_names");
    this.at = fromBigInt(names);
    const tokenTable = required(info, "kallsyms_token_table");
    const tokenIndex = required(info, "kallsyms_token_index");
    this.#offsetsAt = fromBigInt(required(info, "kallsyms_offsets"));
    const base = info.symbol("kallsyms_relative_base");
    const countAt = fromBigInt(required(info, "kallsyms_num_syms"));
    this.count = memory.u32(countAt.hi, countAt.lo, 0, "kallsyms_num_syms");
    if (this.count === 0 || this.count > MAX_SYMBOLS) throw broken(0, `${this.count} symbols`);
    // Only markers, and in 6.1 sequence numbers, are between the names and the tokens.
    this.#names = table(memory, names, tokenTable, MAX_NAME_TABLE_BYTES, "kallsyms_names");
    this.#tokens = readTokens(memory, tokenTable, tokenIndex);
    this.#offsetTable = lazily(memory, this.#offsetsAt, 4 * this.count, "kallsyms_offsets");
    this.#offsets = viewOf(this.#offsetTable.bytes);
    this.#base = base === undefined ? undefined : readBase(memory, base);
    const offsetsAt = required(info, "kallsyms_offsets");
    const tables = { count: this.count, offsets: offsetsAt, base, tokens: tokenTable };
    compileEarly(() => this.#findOrder(nameOrders(memory, tables)) || this.#hashNames());
    this.#rule = this.#findRule(info.symbol("_stext"));
  }

  address(name: string): Pointer | undefined {
    const known = this.#found.get(name);
    if (known !== undefined || this.#found.has(name)) return known;
    const index = this.#indexOf(name);
    const at = index < 0 ? undefined : this.#addressAt(index, this.#rule);
    this.#found.set(name, at);
    return at;
  }

  /** kernel/kallsyms.c, `get_symbol_pos`: symbols are sorted by address. */
  nearest(at: Pointer): NearSymbol | undefined {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBelow(at, this.#addressAt(middle, this.#rule))) high = middle;
      else low = middle + 1;
    }
    if (low === 0) return undefined;
    const address = this.#addressAt(low - 1, this.#rule);
    let first = low - 1;
    while (first > 0 && !isBelow(this.#addressAt(first - 1, this.#rule), address)) first--;
    // `get_symbol_pos` (kernel/kallsyms.c): a symbol ends at the next higher address.
    const sizeBytes = low < this.count ? distance(address, this.#addressAt(low, this.#rule)) : undefined;
    return { name: this.#nameAt(first), offset: distance(address, at), sizeBytes };
  }

  /** Yields all symbols by ascending address, with the type letter of `/proc/kallsyms`. */
  *all(): Generator<{ readonly name: string; readonly type: string; readonly address: Pointer }> {
    this.#names.need(0, this.#names.bytes.length);
    let at = 0;
    for (let index = 0; index < this.count; index++) {
      const { text, end } = this.#expand(at);
      yield { type: text.slice(0, 1), name: text.slice(1), address: this.#addressAt(index, this.#rule) };
      at = end;
    }
  }

  #indexOf(name: string): number {
    if (this.#sequences !== undefined) return this.#bisect(name);
    const bytes = Buffer.from(name, "latin1");
    const hash = hashBytes(bytes, 0, bytes.length);
    let index = this.#hashes.indexOf(hash);
    while (index >= 0) {
      if (this.#nameAt(index) === name) return index;
      index = this.#hashes.indexOf(hash, index + 1);
    }
    return -1;
  }

  /** Uses the first list in which a lookup of `_stext` succeeds. */
  #findOrder(orders: Iterable<NameOrder>): boolean {
    for (const { sequences, marks } of orders) {
      this.#sequences = sequences;
      this.#marks = marks;
      if (this.#bisect("_stext") >= 0) return true;
    }
    return false;
  }

  /** kallsyms_lookup_names: names are sorted as by strcmp, and equal names by address. */
  #bisect(name: string): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#nameAt(this.#sequence(middle)) < name) low = middle + 1;
      else high = middle;
    }
    const index = this.#sequence(low);
    return this.#nameAt(index) === name ? index : -1;
  }

  /** Returns the symbol index at a position of the list sorted by name; `count` if it is not valid. */
  #sequence(place: number): number {
    const at = 3 * place;
    const { bytes: list, need } = this.#sequences!;
    if (at + 3 > list.length) return this.count;
    need(at, 3);
    return (list[at]! << 16) | (list[at + 1]! << 8) | list[at + 2]!;
  }

  /** Returns a symbol's name; "" if there is no such symbol. */
  #nameAt(index: number): string {
    if (index >= this.count) return "";
    const { bytes: names, need } = this.#names;
    const group = index >>> MARK_SHIFT;
    let at = this.#marks[group]!;
    const end = Math.min(this.#marks[group + 1] ?? names.length, names.length);
    if (at < end) need(at, end - at);
    for (let step = index & (MARK_EVERY - 1); step > 0; step--) {
      const length = names[at]!;
      at += length < 0x80 ? 1 + length : 2 + ((length & 0x7f) | (names[at + 1]! << 7));
    }
    return this.#expand(at).text.slice(1);
  }

  /** Returns the name at an offset, with its type letter, and the offset of the next one. */
  #expand(at: number): { readonly text: string; readonly end: number } {
    const names = this.#names.bytes;
    let length = names[at++] ?? 0;
    if (length >= 0x80) length = (length & 0x7f) | ((names[at++] ?? 0) << 7);
    const end = at + length;
    let text = "";
    while (at < end && text.length < MAX_NAME_BYTES) text += this.#tokens[names[at++] ?? 0]!;
    return { text, end };
  }

  /** Computes the hashes of all names. The first character of a name is its type letter, which is not hashed. */
  #hashNames(): void {
    this.#sequences = undefined;
    this.#marks = new Uint32Array(Math.ceil(this.count / MARK_EVERY));
    this.#hashes = new Uint32Array(this.count);
    const names = this.#names.bytes;
    this.#names.need(0, names.length);
    const { hashes, powers, typedHashes } = tokenHashes(this.#tokens);
    let at = 0;
    for (let index = 0; index < this.count; index++) {
      if (index % MARK_EVERY === 0) this.#marks[index / MARK_EVERY] = at;
      let length = names[at++]!;
      if (length >= 0x80) length = (length & 0x7f) | (names[at++]! << 7);
      const end = at + length;
      if (length === 0 || !(end <= names.length))
        throw broken(at, `name ${index} of ${this.count} is not terminated`);
      let hash = typedHashes[names[at++]!]!;
      while (at < end) {
        const token = names[at++]!;
        hash = (Math.imul(hash, powers[token]!) + hashes[token]!) | 0;
      }
      this.#hashes[index] = hash;
    }
  }

  #offset(index: number): number {
    this.#offsetTable.need(4 * index, 4);
    return this.#offsets.getInt32(4 * index, true);
  }

  #addressAt(index: number, rule: AddressRule): Pointer {
    const offset = this.#offset(index);
    if (rule === "self-relative") return add(this.#offsetsAt, 4 * index + offset);
    if (rule === "base-relative") return add(this.#base!, offset >>> 0);
    return offset >= 0 ? { hi: 0, lo: offset } : add(this.#base!, -1 - offset);
  }

  /** Returns the rule that gives `_stext` its known address. If that is not known, the last offset decides. */
  #findRule(start: bigint | undefined): AddressRule {
    if (start === undefined) {
      if (this.#base === undefined) return "self-relative";
      return this.#offset(this.count - 1) < 0 ? "absolute-percpu" : "base-relative";
    }
    const rules: readonly AddressRule[] =
      this.#base === undefined ? ["self-relative"] : ["absolute-percpu", "base-relative"];
    const index = this.#indexOf("_stext");
    if (index < 0) throw broken(0, "_stext is not among the symbols");
    for (const rule of rules) {
      const { hi, lo } = this.#addressAt(index, rule);
      if (toBigInt(hi, lo) === start) return rule;
    }
    throw broken(4 * index, "the address of _stext differs from that in VMCOREINFO");
  }
}

function required(info: KallsymsPlaces, name: string): bigint {
  const address = info.symbol(name);
  if (address !== undefined) return address;
  throw new FormatError("VMCOREINFO", 0, `it does not have ${name}`);
}

function broken(offset: number, problem: string): FormatError {
  return new FormatError("kallsyms", offset, problem);
}

function lazily(memory: GuestMemory, { hi, lo }: Pointer, length: number, what: string): LazyBytes {
  const bytes = memory.lazily(hi, lo, length);
  if (bytes === undefined) throw memory.fault(what);
  return bytes;
}

/** Returns the bytes between two addresses. */
function table(memory: GuestMemory, from: bigint, to: bigint, maxBytes: number, what: string): LazyBytes {
  const size = Number(to - from);
  if (!(size > 0 && size <= maxBytes)) throw broken(0, `${what} would have ${size} bytes`);
  return lazily(memory, fromBigInt(from), size, what);
}

/** Reads the 256 tokens: `kallsyms_token_index[i]` is the offset of token `i` in `kallsyms_token_table`. */
function readTokens(memory: GuestMemory, tokenTable: bigint, tokenIndex: bigint): string[] {
  const tokens = table(memory, tokenTable, tokenIndex, 65_536, "kallsyms_token_table");
  tokens.need(0, tokens.bytes.length);
  const text = Buffer.from(tokens.bytes);
  const { hi, lo } = fromBigInt(tokenIndex);
  const index = Buffer.from(memory.copy(hi, lo, 0, 512, "kallsyms_token_index"));
  return Array.from({ length: 256 }, (_, token) => {
    const start = index.readUInt16LE(2 * token);
    const end = text.indexOf(0, start);
    if (start >= text.length || end < start) throw broken(start, `token ${token} is not terminated`);
    return text.toString("latin1", start, end);
  });
}

function readBase(memory: GuestMemory, at: bigint): Pointer {
  const { hi, lo } = fromBigInt(at);
  return memory.pointer(hi, lo, 0, "kallsyms_relative_base");
}

interface TokenHashes {
  readonly hashes: Int32Array;
  /** Factor for a name's hash before the token's own is added. */
  readonly powers: Int32Array;
  /** Hash of a token without its first character. */
  readonly typedHashes: Int32Array;
}

function tokenHashes(tokens: readonly string[]): TokenHashes {
  const hashes = new Int32Array(256);
  const powers = new Int32Array(256);
  const typedHashes = new Int32Array(256);
  for (const [index, text] of tokens.entries()) {
    const token = Buffer.from(text, "latin1");
    hashes[index] = hashBytes(token, 0, token.length);
    typedHashes[index] = hashBytes(token, 1, token.length);
    let power = 1;
    for (let i = 0; i < token.length; i++) power = Math.imul(power, HASH_BASE);
    powers[index] = power;
  }
  return { hashes, powers, typedHashes };
}
