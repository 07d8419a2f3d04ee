/** Prints the objects of a command as JSON or text. */
import { type Json, stringify, writeJson } from "../report/json.ts";
import type { Context } from "./command.ts";

export const indentOf = (context: Pick<Context, "options">): string => (context.options.pretty ? "  " : "");

/** Prints a document in pieces: it can be far larger than the data that it is made of. */
export function printJson(context: Context, value: Json): void {
  writeJson(context.out, value, indentOf(context));
  context.out.line();
}

/** Prints objects as JSON or text. As in bpftool, a list or several objects of one name are an array; a single one is not. */
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
  // All objects are formatted before printing, so that an error leaves no partial document.
  const texts = items.map((item) => stringify(json(item), indentOf(context)));
  const [only] = texts;
  if (!isListing && only !== undefined && texts.length === 1) out.line(only);
  else {
    const gap = options.pretty ? "\n" : "";
    out.text("[");
    texts.forEach((one, index) => {
      out.text(`${index > 0 ? "," : ""}${gap}${one}`);
    });
    out.line("]");
  }
}
