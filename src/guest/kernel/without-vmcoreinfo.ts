/** Finds the kernel without VMCOREINFO: its symbol table is recognized by its shape. */
import type { Piece } from "../image/format.ts";
import type { MemoryImage } from "../image/image.ts";
import { KallsymsShape, searchDigits } from "./kallsyms-shape.ts";
import { addressOf, layoutsToTry } from "./layout.ts";
import { rebuildVmcoreinfo } from "./rebuilt.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** Limit on symbol tables. A kernel has one; earlier boots and copies leave few others. */
const MAX_TABLES = 8;

/** A VMCOREINFO text from memory or rebuilt, and the memory layout in which it is checked. */
export interface TextInLayout {
  readonly text: Vmcoreinfo;
  readonly layout: readonly Piece[];
}

/**
 * Rebuilds texts from each symbol table, for every layout that the file may have, until `accept` returns true. Returns the
 * number of symbol tables, and a sentence for each table that was refused.
 */
export function searchSymbolTables(
  image: MemoryImage,
  accept: (texts: readonly TextInLayout[]) => boolean,
  onProgress?: (done: number, total: number) => void,
): { readonly tables: number; readonly refusals: readonly string[] } {
  const layouts = image.layoutIsKnown
    ? [image.pieces]
    : [...layoutsToTry("x86_64", image.sizeBytes), ...layoutsToTry("aarch64", image.sizeBytes)];
  // A raw file without a known layout is searched by file offset.
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
    const texts = layouts.flatMap((layout): TextInLayout[] => {
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
