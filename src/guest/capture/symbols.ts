/** The symbols that a capture holds: those that were asked for when it was made. */
import { KtstrError } from "../../errors.ts";
import type { NearSymbol, Symbols } from "../kernel/symbols.ts";
import { hex, type Pointer } from "../memory/pointer.ts";
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
    if (addresses.has(name)) return addresses.get(name);
    throw new KtstrError(`find symbol ${name}: nobody asked for it when the capture was made`, {
      hint: "Make the capture anew with this ktstr, or give the kernel's --vmlinux.",
    });
  }

  /** undefined also for an address that nobody asked for: it has no name here. */
  nearest(at: Pointer): NearSymbol | undefined {
    return this.#note.nearest.get(hex(at.hi, at.lo));
  }
}
