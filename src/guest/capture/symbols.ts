/** The symbols that a capture holds: those that were asked for when it was made. */
import { KtstrError } from "../../errors.ts";
import { hex, type Pointer } from "../pointer.ts";
import type { NearSymbol, Symbols } from "../symbols.ts";
import type { CaptureNote } from "./note.ts";

export class CapturedSymbols implements Symbols {
  readonly source = "the capture";
  readonly count: number;
  readonly #note: CaptureNote;

  constructor(note: CaptureNote) {
    this.#note = note;
    this.count = note.symbolCount;
  }

  /** Throws `KtstrError` for a name of which nothing is known: that the kernel has none would be made up. */
  address(name: string): Pointer | undefined {
    const { addresses } = this.#note;
    if (!addresses.has(name)) throw unknown(`symbol ${name}`);
    return addresses.get(name);
  }

  nearest(at: Pointer): NearSymbol | undefined {
    const { nearest } = this.#note;
    const key = hex(at.hi, at.lo);
    if (!nearest.has(key)) throw unknown(`the symbol at ${key}`);
    return nearest.get(key);
  }
}

function unknown(what: string): KtstrError {
  return new KtstrError(`find ${what}: the capture does not tell, it was not asked for when it was made`, {
    hint: "Make the capture anew with this ktstr, or give the kernel's --vmlinux.",
  });
}
