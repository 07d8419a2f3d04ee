/** The symbols of a capture: those that were looked up when it was made. */
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

  /** Throws `KtstrError` for a name that was not looked up: the capture does not contain whether the kernel has it. */
  address(name: string): Pointer | undefined {
    const { addresses } = this.#note;
    if (addresses.has(name)) return addresses.get(name);
    throw new KtstrError(`find symbol ${name}: it was not looked up when the capture was made`, {
      hint: "Make the capture again with this version of ktstr, or give the kernel's --vmlinux.",
    });
  }

  /** Also undefined for an address that was not looked up. */
  nearest(at: Pointer): NearSymbol | undefined {
    return this.#note.nearest.get(hex(at.hi, at.lo));
  }
}
