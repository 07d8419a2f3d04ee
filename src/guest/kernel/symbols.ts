/** Names of the kernel's variables and functions, from wherever they come. */
import { KtstrError } from "../../errors.ts";
import type { Pointer } from "../memory/pointer.ts";

export interface Symbols {
  /** "kallsyms", or the path of a vmlinux. */
  readonly source: string;
  readonly count: number;
  /** Where it lies in the running kernel (KASLR applied); of several with one name the one at the lowest address. */
  address(name: string): Pointer | undefined;
  /** The symbol at or before an address of the kernel image, the first of several at one place; undefined: none. */
  nearest(at: Pointer): NearSymbol | undefined;
}

/** A symbol, and how far behind it an address lies, in bytes. */
export interface NearSymbol {
  readonly name: string;
  readonly offset: number;
  /** Bytes up to the next symbol; undefined if that is not known. */
  readonly sizeBytes?: number | undefined;
}

/** A symbol that the kernel must have. Throws `KtstrError` if it has not. */
export function requireSymbol(symbols: Symbols, name: string): Pointer {
  const at = symbols.address(name);
  if (at !== undefined) return at;
  // Every kernel has this variable (init/version-timestamp.c). Captures have only what was asked for.
  if (symbols.source === "kallsyms" && symbols.address("linux_banner") === undefined)
    throw new KtstrError(
      `find symbol ${name}: ${symbols.source} has functions only (${symbols.count} symbols)`,
      {
        hint: "The kernel was built without CONFIG_KALLSYMS_ALL: give its vmlinux with --vmlinux.",
      },
    );
  throw new KtstrError(
    `find symbol ${name}: ${symbols.source} has no such symbol (${symbols.count} others)`,
    {
      hint: "The kernel was built without what is asked for, or it was stripped; --vmlinux gives others.",
    },
  );
}

/** Of the polynomial that `hashBytes` computes modulo 2^32; odd, so that no character drops out. */
export const HASH_BASE = 0x0100_0193;

/** The hash of `bytes[from, to)`; the hash of two strings in a row is `hash(a) * HASH_BASE ** b.length + hash(b)`. */
export function hashBytes(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0;
  for (let at = from; at < to; at++) hash = (Math.imul(hash, HASH_BASE) + bytes[at]! + 1) | 0;
  return hash >>> 0;
}
