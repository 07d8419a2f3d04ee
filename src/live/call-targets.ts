/** Resolves the call targets of programs by `/proc/kallsyms`, which shows addresses only with CAP_SYSLOG (else zeros). */
import { type CallTargets, calledAddresses, NO_TARGETS, type ProgCode } from "../prog-code.ts";
import { pickAlias } from "../uapi/symbol-alias.ts";
import type { Sys } from "./sys.ts";

const PATH = "/proc/kallsyms";
const DIGITS = 16;
const BASE = " __bpf_call_base\n";

/**
 * Returns the names of all functions that these programs call. Reading /proc/kallsyms is the slowest part of a dump, so the
 * file is not read if the programs call only helpers, and reading stops once every address is found.
 */
export function readCallTargets(sys: Sys, codes: readonly ProgCode[]): CallTargets {
  if (codes.every((code) => calledAddresses(code, 0n).length === 0)) return NO_TARGETS;
  const read: string[] = [];
  let base = 0n;
  let search: Search | undefined;
  for (const lines of linesOf(sys)) {
    read.push(lines);
    if (search !== undefined) {
      // Symbols of one address are adjacent: aliases of the last one may follow in the next piece.
      const isOver = search.isDone && !search.hasAliases;
      search.look(lines);
      if (isOver && !search.hasAliases) break;
      continue;
    }
    const at = lines.indexOf(BASE);
    if (at < 0) continue;
    base = BigInt(`0x${lines.slice(lines.lastIndexOf("\n", at) + 1, at).slice(0, DIGITS)}`);
    if (base === 0n) return NO_TARGETS;
    search = new Search(codes, base);
    for (const earlier of read) search.look(earlier);
  }
  return search === undefined ? NO_TARGETS : { base, names: search.names(read) };
}

/** Yields the file in pieces of whole lines. */
function* linesOf(sys: Sys): Generator<string> {
  let rest = "";
  for (const piece of sys.pieces(PATH)) {
    const text = rest + Buffer.from(piece.buffer, piece.byteOffset, piece.length).toString("latin1");
    const end = text.lastIndexOf("\n") + 1;
    rest = text.slice(end);
    if (end > 0) yield text.slice(0, end);
  }
  if (rest !== "") yield `${rest}\n`;
}

class Search {
  /** Addresses to find, by their digits in the file. */
  readonly #wanted = new Map<string, bigint>();
  readonly #sorted: readonly string[];
  readonly #found = new Map<bigint, string[]>();

  constructor(codes: readonly ProgCode[], base: bigint) {
    for (const code of codes)
      for (const address of calledAddresses(code, base))
        this.#wanted.set(address.toString(16).padStart(DIGITS, "0"), address);
    this.#sorted = [...this.#wanted.keys()].sort();
  }

  get isDone(): boolean {
    return this.#found.size === this.#wanted.size;
  }

  get hasAliases(): boolean {
    return [...this.#found.values()].some((names) => names.length > 1);
  }

  look(text: string): void {
    // The kernel's own symbols are sorted by address; those of modules and programs, which follow, are not.
    const first = text.slice(0, DIGITS);
    const lastAt = text.lastIndexOf("\n", text.length - 2) + 1;
    const last = text.slice(lastAt, lastAt + DIGITS);
    if (!text.includes("[") && !this.#sorted.some((digits) => digits >= first && digits <= last)) return;
    for (let start = 0, end = 0; start < text.length; start = end + 1) {
      end = text.indexOf("\n", start);
      const address = this.#wanted.get(text.slice(start, start + DIGITS));
      if (address === undefined) continue;
      // A line is `ffffffff81000000 T _stext`, for modules with a tab and ` [module]` after it.
      const [name = ""] = /\S+/.exec(text.slice(start + DIGITS + 3, end)) ?? [];
      const names = this.#found.get(address);
      if (names === undefined) this.#found.set(address, [name]);
      else names.push(name);
    }
  }

  /** `read` is the text searched so far; it is needed to choose among aliases. */
  names(read: readonly string[]): Map<bigint, string> {
    const names = new Map<bigint, string>();
    for (const [address, all] of this.#found)
      names.set(address, all.length === 1 ? all[0]! : pickAlias(all, address, () => addressesOf(read)));
    return names;
  }
}

/** Yields the low 32 bits of every address in the text. */
function* addressesOf(read: readonly string[]): Generator<number> {
  for (const text of read)
    for (let start = 0; start < text.length; start = text.indexOf("\n", start) + 1) {
      const low = Number.parseInt(text.slice(start + DIGITS / 2, start + DIGITS), 16);
      if (low !== 0 || !text.startsWith("00000000", start)) yield low;
    }
}
