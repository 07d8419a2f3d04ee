/** Finding the kernel in an image: a VMCOREINFO that is this memory's own, under a layout that the kernel confirms. */
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
import type { TextUnder } from "./without-vmcoreinfo.ts";

/** A kernel's VMCOREINFO, and the memory in which it holds. */
export interface Found {
  readonly info: Vmcoreinfo;
  readonly machine: Machine;
  readonly physical: PhysicalMemory;
  readonly tables: PageTables;
  readonly layout: readonly Piece[];
  /** A sentence on what was assumed about the file's layout; "" where nothing was. */
  readonly assumption: string;
}

export interface DiscoverOptions {
  /** Guest physical address of the VMCOREINFO text or of its ELF note: no search. */
  readonly vmcoreinfo?: number | undefined;
  /**
   * Whether raw memory is searched to its end for a second kernel, such as one that a boot before left. Without, that is
   * done only where the kernel has room for a crash kernel, or is one.
   */
  readonly others?: boolean | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** While a file is unpacked (image/unpack.ts, pipe.ts). */
  readonly onUnpack?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** Reads the RAM ranges that a found kernel knows; it may throw `KtstrError` if the layout is wrong. */
export type RamReader = (found: Found) => readonly PhysicalRange[];

const NOTE_HEADER_BYTES = 24;
const MAX_TEXT_BYTES = 16_384;

/** Throws `KtstrError` if no kernel is found; its message says what was looked at and why it was refused. */
export function discover(image: MemoryImage, options: DiscoverOptions, readRam: RamReader): Found {
  const search = new Search(image, readRam);
  const note = image.vmcoreinfo === undefined ? undefined : parseVmcoreinfo(image.vmcoreinfo, undefined);
  if (note !== undefined) search.offer(note);
  if (search.found === undefined && options.vmcoreinfo !== undefined) search.offerAt(options.vmcoreinfo);
  else if (search.found === undefined)
    searchVmcoreinfo(image, (candidate) => search.offer(candidate), options.onProgress);
  if (search.found !== undefined) return search.found;
  if (options.vmcoreinfo !== undefined) throw notAt(image, search.refusals, options.vmcoreinfo);
  // Memory with this text in it has no use for the code that does without.
  const { searchSymbolTables } =
    require("./without-vmcoreinfo.ts") as typeof import("./without-vmcoreinfo.ts");
  const tables = searchSymbolTables(image, (texts) => search.try(texts), options.onProgress);
  if (search.found !== undefined) return search.found;
  throw notFound(image, search.refusals, tables);
}

/** Other texts of raw memory that hold as the one does that was taken; a kernel has its own twice. */
export function findOthers(image: MemoryImage, found: Found): readonly Vmcoreinfo[] {
  const others = new Map<string, Vmcoreinfo>();
  searchVmcoreinfo(image, (candidate) => {
    const machine = machineOf(candidate);
    if (candidate.text === found.info.text || others.has(candidate.text) || typeof machine === "string")
      return false;
    if (typeof checkMachine(found.physical, machine, candidate) !== "string")
      others.set(candidate.text, candidate);
    return false;
  });
  return [...others.values()];
}

const filesOf = (image: MemoryImage): string => `${image.format} memory of ${image.sizeBytes} bytes`;
const PIECES_HINT =
  "Say where the pieces of memory belong (FILE@ADDRESS), if the file is not all of it from its start.";

function notAt(image: MemoryImage, refusals: readonly string[], at: number): KtstrError {
  if (refusals.length > 0)
    return new KtstrError(
      `find the kernel in ${filesOf(image)}: VMCOREINFO is not this memory's: ${refusals[0]}`,
      {
        hint: PIECES_HINT,
      },
    );
  return new KtstrError(`find the kernel in ${filesOf(image)}: no VMCOREINFO lies at 0x${at.toString(16)}`, {
    hint: "Without --vmcoreinfo it is searched for; `--explain` says where one was found.",
  });
}

/** What was looked for, in this order, and what came of each. */
function notFound(
  image: MemoryImage,
  refusals: readonly string[],
  tables: { readonly tables: number; readonly refusals: readonly string[] },
): KtstrError {
  const first = (sentences: readonly string[]): string => sentences.slice(0, 3).join("; ");
  const text =
    refusals.length === 0
      ? "no page begins with VMCOREINFO's text"
      : `VMCOREINFO was found ${refusals.length} times, and none is this memory's: ${first(refusals)}`;
  const symbols =
    tables.tables === 0
      ? "no symbol table of a kernel (kallsyms) lies in it"
      : `a symbol table (kallsyms) was found ${tables.tables} times, and leads to no kernel: ${first(tables.refusals)}`;
  const hint =
    refusals.length + tables.tables > 0
      ? PIECES_HINT
      : [
          ...image.doubts.map((sentence) => `${sentence}.`),
          "It must be the whole memory of a Linux since 5.10 with CONFIG_KALLSYMS, neither encrypted nor compressed.",
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

  /** The text at a physical address, under every layout that the file may have. */
  offerAt(physical: number): void {
    const layouts = this.#image.layoutIsKnown
      ? [this.#image.pieces]
      : [...layoutsToTry("x86_64", this.#image.sizeBytes), ...layoutsToTry("aarch64", this.#image.sizeBytes)];
    for (const layout of layouts) {
      if (!this.#image.layoutIsKnown) this.#image.arrange(layout);
      const memory = this.#image.physicalMemory();
      for (const skip of [0, NOTE_HEADER_BYTES]) {
        const bytes = new Uint8Array(MAX_TEXT_BYTES);
        const size = memory.copyOut(physical + skip, bytes);
        const inFile = this.#image.layoutIsKnown ? physical + skip : offsetOf(layout, physical + skip);
        const candidate = parseVmcoreinfo(bytes.subarray(0, size), inFile);
        if (candidate !== undefined && this.try([{ text: candidate, layout }])) return;
      }
    }
  }

  /** Whether a text is this memory's kernel's. Where the layout is not known, `physical` is an offset in the file. */
  offer(candidate: Vmcoreinfo): boolean {
    const machine = machineOf(candidate);
    if (typeof machine === "string") return this.#refuse(candidate, machine);
    const { layoutIsKnown, pieces, sizeBytes } = this.#image;
    const layouts = layoutIsKnown ? [pieces] : layoutsToTry(machine.machine, sizeBytes);
    return this.try(layouts.map((layout) => ({ text: candidate, layout })));
  }

  /** Takes the first that the kernel confirms, or else the first that holds; they are of one kernel, one a layout. */
  try(texts: readonly TextUnder[]): boolean {
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
    const assumption = `${unconfirmed.assumption} That could not be read whole: addresses may be wrong.`;
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
      : `The file does not say where its memory belongs; by the kernel's own list of RAM it is ${describeLayout(layout)}.`;
    // What was searched by its place in the file has an address now.
    const textAt =
      info.physical === undefined || image.layoutIsKnown ? info.physical : addressOf(layout, info.physical);
    return { info: { ...info, physical: textAt }, machine, physical, tables, layout, assumption };
  }

  /** Asks the kernel which RAM it has: the layout that was assumed, or a better one, or undefined for neither. */
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
    // Its symbol table is told of by whoever made it.
    if (isRebuilt) return false;
    const where = physical === undefined ? "in the dump's note" : `at 0x${physical.toString(16)}`;
    this.refusals.push(`the one ${where} (${candidate.release}): ${why}`);
    return false;
  }
}
