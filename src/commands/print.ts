import { type Json, stringify } from "../report/json.ts";
import type { Context } from "./command.ts";

export const indentOf = (context: Context): string => (context.options.pretty ? "  " : "");

/**
 * Objects as JSON or text. As bpftool does: all of them, or several of one name, are an array; one alone is not.
 */
export function printList<T>(
  context: Context,
  items: readonly T[],
  json: (item: T) => Json,
  text: (item: T) => string,
  isListing: boolean,
): void {
  const { out, options } = context;
  if (!options.json) {
    for (const item of items) out.line(text(item));
    return;
  }
  const indent = indentOf(context);
  if (!isListing && items.length === 1) {
    for (const item of items) out.line(stringify(json(item), indent));
    return;
  }
  out.text("[");
  items.forEach((item, index) => {
    out.text(`${index > 0 ? "," : ""}${indent === "" ? "" : "\n"}${stringify(json(item), indent)}`);
  });
  out.line("]");
}
