/** Markup from a tagged template: whatever is put into one is text, unless a template made it. */
import { escapeSource } from "../../text.ts";

/** Markup that a template made, or a constant of the program. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Part = Html | string | number | bigint | undefined | false | readonly Part[];

/**
 * Strings are escaped for text and for quoted attributes alike; lists are joined; undefined and false are nothing. A part
 * may stand in text or in a quoted attribute, and nowhere else: not in a tag's name, a style or a script.
 */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  let text = strings[0] ?? "";
  parts.forEach((part, index) => {
    text += partText(part) + (strings[index + 1] ?? "");
  });
  return new Html(text);
}

export const NOTHING: Html = new Html("");

function partText(part: Part): string {
  if (part instanceof Html) return part.text;
  if (part === undefined || part === false) return "";
  if (typeof part === "string") return escapeMarkup(part);
  return typeof part === "object" ? part.map(partText).join("") : String(part);
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Letters, digits and what neither markup nor a terminal obeys. */
const PLAIN = /^[\n\t !#-%(-;=?-~]*$/;

/** Text as markup. Control characters other than line ends and tabs become escapes (`src/text.ts`). */
function escapeMarkup(text: string): string {
  if (PLAIN.test(text)) return text;
  const shown = text.split("\n").map(escapeSource).join("\n");
  return shown.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}

/**
 * Data for a script as a `<script type="application/json">`, which no browser runs: with `<` and the line separators
 * escaped nothing in it can end the element.
 */
export function dataBlock(id: string, json: string): Html {
  const text = json.replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return html`<script type="application/json" id="${id}">${new Html(text)}</script>`;
}
