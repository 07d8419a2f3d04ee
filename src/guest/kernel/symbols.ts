/** The interface of symbol tables: kallsyms, a vmlinux, or a capture. */
import { KtstrError } from "../../errors.ts";
import type { Pointer } from "../memory/pointer.ts";

export interface Symbols {
  /** "kallsyms", "the capture", or the path of a vmlinux. */
  readonly source: string;
  readonly count: number;
  /** Address in the running kernel (with KASLR); the lowest if several symbols have this name. */
  address(name: string): Pointer | undefined;
  /** Returns the symbol at or before an address of the kernel image; the first of several at one address. */
  nearest(at: Pointer): NearSymbol | undefined;
}

/** A symbol, and the offset of an address from its start, in bytes. */
export interface NearSymbol {
  readonly name: string;
  readonly offset: number;
  /** Bytes up to the next symbol; undefined if that is not known. */
  readonly sizeBytes?: number | undefined;
}

/** Returns a symbol's address. Throws `KtstrError` if the kernel does not have it. */
export function requireSymbol(symbols: Symbols, name: string): Pointer {
  const at = symbols.address(name);
  if (at !== undefined) return at;
  // Every kernel has this variable (init/version-timestamp.c). Captures have only the symbols that were looked up.
  if (symbols.source === "kallsyms" && symbols.address("linux_banner") === undefined)
    throw new KtstrError(
      `find symbol ${name}: ${symbols.source} has functions only (${symbols.count} symbols)`,
      {
        hint: "The kernel was built without CONFIG_KALLSYMS_ALL: give its vmlinux with --vmlinux.",
      },
    );
  throw new KtstrError(
    `find symbol ${name}: ${symbols.source} does not have it among its ${symbols.count} symbols`,
    {
      hint: "The kernel was built without this feature, or its symbols were stripped. --vmlinux gives other symbols.",
    },
  );
}

/** Base of the polynomial that `hashBytes` computes modulo 2^32. It must be odd, so that every character affects the hash. */
export const HASH_BASE = 0x0100_0193;

/** The hash of `bytes[from, to)`; the hash of two strings in a row is `hash(a) * HASH_BASE ** b.length + hash(b)`. */
export function hashBytes(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0;
  for (let at = from; at < to; at++) hash = (Math.imul(hash, HASH_BASE) + bytes[at]! + 1) | 0;
  return hash >>> 0;
}
