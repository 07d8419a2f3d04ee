/** Words that reports share. */
import type { MapContents, WalkEnd } from "../state.ts";
import { nameOr } from "../uapi/names.ts";

/** A type's name, or its number. */
export function typeText(names: readonly string[], type: number): string {
  const name = nameOr(names, type);
  return typeof name === "string" ? name : `type ${name}`;
}

/** Why pages are not all that are there; "" where they are. */
export function arenaIncomplete({ arena }: Extract<MapContents, { kind: "arena" }>): string {
  if (arena.missingPages) return `${arena.missingPages} more pages are allocated, and not in the image`;
  if (arena.truncated) return `only the first ${arena.pages.length} pages were read`;
  return arena.spanCapped ? "only the first 4 GiB of the arena were looked at" : "";
}

/** Why a walk did not show all; "" where it did. */
export function whyIncomplete(end: WalkEnd): string {
  if (end.stopped !== "") return end.stopped;
  if (end.complete) return "";
  return [...end.skipped].map(([reason, count]) => `${count} skipped (${reason})`).join(", ");
}

export function hexAddress(address: bigint): string {
  return `0x${address.toString(16)}`;
}
