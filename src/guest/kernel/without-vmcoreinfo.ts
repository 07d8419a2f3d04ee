/** Memory in which no VMCOREINFO is this kernel's: the kernel is found by its symbol table, told by its shape. */
import type { Piece } from "../image/format.ts";
import type { MemoryImage } from "../image/image.ts";
import { KallsymsShape, searchDigits } from "./kallsyms-shape.ts";
import { addressOf, layoutsToTry } from "./layout.ts";
import { rebuildVmcoreinfo } from "./rebuilt.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** A kernel has one; what a boot before left, and copies, are few. */
const MAX_TABLES = 8;

/** A text that VMCOREINFO could have, and the layout under which it holds. */
export interface TextUnder {
  readonly text: Vmcoreinfo;
  readonly layout: readonly Piece[];
}

/**
 * Offers what each symbol table gives, under every layout that the file may have, until `accept` takes one. Returns how many
 * symbol tables were found, and why none of them gave a kernel: sentences.
 */
export function searchSymbolTables(
  image: MemoryImage,
  accept: (texts: readonly TextUnder[]) => boolean,
  onProgress?: (done: number, total: number) => void,
): { readonly tables: number; readonly refusals: readonly string[] } {
  const layouts = image.layoutIsKnown
    ? [image.pieces]
    : [...layoutsToTry("x86_64", image.sizeBytes), ...layoutsToTry("aarch64", image.sizeBytes)];
  // A lone raw file is searched by its places in the file.
  if (!image.layoutIsKnown) image.arrange([{ fileOffset: 0, physical: 0, length: image.sizeBytes }]);
  const shape = new KallsymsShape(image.physicalMemory());
  const places: number[] = [];
  searchDigits(
    image,
    (place) => {
      if (shape.tables(place) !== undefined) places.push(place);
      return places.length >= MAX_TABLES;
    },
    onProgress,
  );
  const refusals: string[] = [];
  for (const place of places) {
    let why = "";
    const texts = layouts.flatMap((layout): TextUnder[] => {
      if (!image.layoutIsKnown) image.arrange(layout);
      const memory = image.physicalMemory();
      const at = image.layoutIsKnown ? place : addressOf(layout, place);
      const tables = new KallsymsShape(memory).tables(at);
      if (tables === undefined) return [];
      const text = rebuildVmcoreinfo(memory, image.pages, tables, (visit) => eachPage(image, visit));
      if (typeof text !== "string") return [{ text, layout }];
      if (why === "") why = text;
      return [];
    });
    if (texts.length > 0 && accept(texts)) break;
    refusals.push(`the one around 0x${place.toString(16)}: ${why}`);
  }
  return { tables: places.length, refusals };
}

function eachPage(image: MemoryImage, visit: (page: number) => boolean): void {
  image.search((view, physical) => {
    for (let at = 0; at < view.byteLength; at += 4096) if (visit(physical + at)) return true;
    return false;
  });
}
