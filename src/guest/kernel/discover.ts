/** Finds the kernel in an image: a VMCOREINFO that matches the memory, in a layout that the kernel confirms. */
import { KtstrError } from "../../errors.ts";
import type { Piece } from "../image/format.ts";
import type { MemoryImage } from "../image/image.ts";
import type { PhysicalMemory } from "../image/physical.ts";
import type { PageTables } from "../memory/mmu.ts";
import {
  addressOf,
  describeLayout,
  layoutFromRam,
  layoutsToTry,
  offsetOf,
  type PhysicalRange,
} from "./layout.ts";
import { checkMachine, type Machine, machineOf } from "./machine.ts";
import { parseVmcoreinfo, searchVmcoreinfo, type Vmcoreinfo } from "./vmcoreinfo.ts";
import type { TextInLayout } from "./without-vmcoreinfo.ts";

/** A kernel's VMCOREINFO, and the memory in the layout in which it is valid. */
export interface Found {
  readonly info: Vmcoreinfo;
  readonly machine: Machine;
  readonly physical: PhysicalMemory;
  readonly tables: PageTables;
  readonly layout: readonly Piece[];
  /** A sentence about an assumption on the file's layout; "" if there is none. */
  readonly assumption: string;
}

export interface DiscoverOptions {
  /** Guest physical address of the VMCOREINFO text or of its ELF note; skips the search. */
  readonly vmcoreinfo?: number | undefined;
  /**
   * Whether raw memory is searched to its end for a second kernel, such as one of an earlier boot. By default this is done
   * only if the kernel has memory reserved for a crash kernel, or is a crash kernel.
   */
  readonly others?: boolean | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Receives the progress while a file is unpacked (image/unpack.ts, pipe.ts). */
  readonly onUnpack?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** Reads the RAM ranges from a kernel's resource tree. It may throw `KtstrError` if the layout is wrong. */
export type RamReader = (found: Found) => readonly PhysicalRange[];

const NOTE_HEADER_BYTES = 24;
const MAX_TEXT_BYTES = 16_384;

/** Throws `KtstrError` if no kernel is found. Its message says what was found and why it was rejected. */
export function discover(image: MemoryImage, options: DiscoverOptions, readRam: RamReader): Found {
  const search = new Search(image, readRam);
  const note = image.vmcoreinfo === undefined ? undefined : parseVmcoreinfo(image.vmcoreinfo, undefined);
  if (note !== undefined) search.offer(note);
  if (search.found === undefined && options.vmcoreinfo !== undefined) search.offerAt(options.vmcoreinfo);
  else if (search.found === undefined)
    searchVmcoreinfo(image, (candidate) => search.offer(candidate), options.onProgress);
  if (search.found !== undefined) return search.found;
  if (options.vmcoreinfo !== undefined) throw notAt(image, search.refusals, options.vmcoreinfo);
  // The code that works without VMCOREINFO is not loaded if there is one.
  const { searchSymbolTables } =
    require("./without-vmcoreinfo.ts") as typeof import("./without-vmcoreinfo.ts");
  const tables = searchSymbolTables(image, (texts) => search.try(texts), options.onProgress);
  if (search.found !== undefined) return search.found;
  throw notFound(image, search.refusals, tables);
}

/** Finds other kernels' valid VMCOREINFO texts in raw memory. Each kernel has several copies of its text. */
export function findOthers(image: MemoryImage, found: Found): readonly Vmcoreinfo[] {
  const chosen = beforeCrash(found.info);
  const others = new Map<string, Vmcoreinfo>();
  searchVmcoreinfo(image, (candidate) => {
    const machine = machineOf(candidate);
    const text = beforeCrash(candidate);
    if (text === chosen || others.has(text) || typeof machine === "string") return false;
    if (typeof checkMachine(found.physical, machine, candidate) !== "string") others.set(text, candidate);
    return false;
  });
  return [...others.values()];
}

/**
 * Returns the text as it was before a crash. If a crash kernel is loaded, a panic appends CRASHTIME to one copy of the text and
 * to the note, but not to the original (kernel/crash_core.c, crash_save_vmcoreinfo).
 */
const beforeCrash = ({ text }: Vmcoreinfo): string => text.replace(/^CRASHTIME=.*\n?/m, "");

const filesOf = (image: MemoryImage): string => `${image.format} memory of ${image.sizeBytes} bytes`;
const PIECES_HINT =
  "If the file is not the whole memory from its start, give the addresses of its pieces (FILE@ADDRESS).";

/** Returns what to do if parts of the memory seem to be missing. */
const partHint = ({ warnings, layoutIsKnown }: MemoryImage): string =>
  layoutIsKnown && warnings.length > 0 ? `Part of the memory is missing: ${warnings.join(" ")}` : PIECES_HINT;

function notAt(image: MemoryImage, refusals: readonly string[], at: number): KtstrError {
  if (refusals.length > 0)
    return new KtstrError(
      `find the kernel in ${filesOf(image)}: VMCOREINFO does not match this memory: ${refusals[0]}`,
      { hint: partHint(image) },
    );
  return new KtstrError(
    `find the kernel in ${filesOf(image)}: there is no VMCOREINFO at 0x${at.toString(16)}`,
    {
      hint: "Without --vmcoreinfo it is searched for. `--explain` prints where it was found.",
    },
  );
}

/** Returns the error that lists what was searched for, in order, with the results. */
function notFound(
  image: MemoryImage,
  refusals: readonly string[],
  tables: { readonly tables: number; readonly refusals: readonly string[] },
): KtstrError {
  const first = (sentences: readonly string[]): string => sentences.slice(0, 3).join("; ");
  const text =
    refusals.length === 0
      ? "no page starts with VMCOREINFO's text"
      : `VMCOREINFO was found ${refusals.length} times, but no copy matches this memory: ${first(refusals)}`;
  const symbols =
    tables.tables === 0
      ? "it contains no symbol table of a kernel (kallsyms)"
      : `a symbol table (kallsyms) was found ${tables.tables} times, but no kernel was found with it: ${first(tables.refusals)}`;
  const hint =
    refusals.length + tables.tables > 0
      ? partHint(image)
      : [
          ...image.doubts.map((sentence) => `${sentence}.`),
          "It must be the whole memory of Linux 5.10 or newer with CONFIG_KALLSYMS, and neither encrypted nor compressed.",
        ].join(" ");
  return new KtstrError(`find the kernel in ${filesOf(image)}: ${text}; ${symbols}`, { hint });
}

class Search {
  found: Found | undefined;
  readonly refusals: string[] = [];
  readonly #image: MemoryImage;
  readonly #readRam: RamReader;

  constructor(image: MemoryImage, readRam: RamReader) {
    this.#image = image;
    this.#readRam = readRam;
  }

  /** Checks the text at a physical address, in every possible layout. */
  offerAt(physical: number): void {
    const layouts = this.#image.layoutIsKnown
      ? [this.#image.pieces]
      : [...layoutsToTry("x86_64", this.#image.sizeBytes), ...layoutsToTry("aarch64", this.#image.sizeBytes)];
    const texts: TextInLayout[] = [];
    for (const layout of layouts) {
      if (!this.#image.layoutIsKnown) this.#image.arrange(layout);
      const memory = this.#image.physicalMemory();
      for (const skip of [0, NOTE_HEADER_BYTES]) {
        const bytes = new Uint8Array(MAX_TEXT_BYTES);
        const size = memory.copyOut(physical + skip, bytes);
        const inFile = this.#image.layoutIsKnown ? physical + skip : offsetOf(layout, physical + skip);
        const candidate = parseVmcoreinfo(bytes.subarray(0, size), inFile);
        if (candidate !== undefined) texts.push({ text: candidate, layout });
      }
    }
    if (texts.length > 0) this.try(texts);
  }

  /** Returns whether a text matches this memory's kernel. If the layout is not known, `physical` is a file offset. */
  offer(candidate: Vmcoreinfo): boolean {
    const machine = machineOf(candidate);
    if (typeof machine === "string") return this.#refuse(candidate, machine);
    const { layoutIsKnown, pieces, sizeBytes } = this.#image;
    const layouts = layoutIsKnown ? [pieces] : layoutsToTry(machine.machine, sizeBytes);
    return this.try(layouts.map((layout) => ({ text: candidate, layout })));
  }

  /** Takes the first candidate that the kernel confirms, else the first valid one. All are of one kernel, in several layouts. */
  try(texts: readonly TextInLayout[]): boolean {
    let why = "";
    let unconfirmed: Found | undefined;
    for (const { text, layout } of texts) {
      const machine = machineOf(text);
      const found = typeof machine === "string" ? machine : this.#check(text, machine, layout);
      if (typeof found === "string") {
        if (why === "") why = found;
        continue;
      }
      unconfirmed ??= found;
      this.found = this.#image.layoutIsKnown ? found : this.#confirm(found, layout);
      if (this.found !== undefined) return true;
    }
    if (unconfirmed === undefined) return this.#refuse(texts[0]!.text, why);
    this.#image.arrange(unconfirmed.layout);
    const assumption = `${unconfirmed.assumption} The list could not be read completely: addresses may be wrong.`;
    this.found = { ...unconfirmed, assumption };
    return true;
  }

  #check(info: Vmcoreinfo, machine: Machine, layout: readonly Piece[]): Found | string {
    const image = this.#image;
    if (!image.layoutIsKnown) image.arrange(layout);
    const physical = image.physicalMemory();
    const tables = checkMachine(physical, machine, info);
    if (typeof tables === "string") return tables;
    const assumption = image.layoutIsKnown
      ? ""
      : `The file does not contain the addresses of its memory; according to the kernel's own list of RAM it is ${describeLayout(layout)}.`;
    // The text was found by its file offset, which now has a physical address.
    const textAt =
      info.physical === undefined || image.layoutIsKnown ? info.physical : addressOf(layout, info.physical);
    return { info: { ...info, physical: textAt }, machine, physical, tables, layout, assumption };
  }

  /** Reads the kernel's RAM ranges. Returns the assumed layout, a better one, or undefined if neither matches. */
  #confirm(found: Found, layout: readonly Piece[]): Found | undefined {
    let ram: readonly PhysicalRange[];
    try {
      ram = this.#readRam(found);
    } catch (error) {
      if (error instanceof KtstrError) return undefined;
      throw error;
    }
    const better = layoutFromRam(layout, ram, this.#image.sizeBytes);
    if (better === layout) return found;
    const again = better === undefined ? "" : this.#check(found.info, found.machine, better);
    return typeof again === "string" ? undefined : again;
  }

  #refuse(candidate: Vmcoreinfo, why: string): false {
    const { physical, isRebuilt } = candidate;
    // The caller reports candidates that were made from a symbol table.
    if (isRebuilt) return false;
    const where = physical === undefined ? "in the dump's note" : `at 0x${physical.toString(16)}`;
    this.refusals.push(`the one ${where} (${candidate.release}): ${why}`);
    return false;
  }
}
