/** Markup from a tagged template. Every inserted value is escaped, unless a template made it. */
import { escapeSource } from "../../text.ts";

/** Markup made by a template, or a constant of the program. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Part = Html | string | number | bigint | undefined | false | readonly Part[];

/**
 * Escapes strings for text and for quoted attributes, joins lists, and omits undefined and false. Parts may only be inserted
 * into text and quoted attributes, not into tag names, styles or scripts.
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

/** Matches characters that are special neither in markup nor in a terminal. */
const PLAIN = /^[\n\t !#-%(-;=?-~]*$/;

/** Escapes text as markup. Control characters except line feeds and tabs become escape sequences (`src/text.ts`). */
function escapeMarkup(text: string): string {
  if (PLAIN.test(text)) return text;
  const shown = text.split("\n").map(escapeSource).join("\n");
  return shown.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}

/**
 * Returns data for a script as `<script type="application/json">`, which browsers do not run. `<` and line separators are
 * escaped, so the data cannot end the element.
 */
export function dataBlock(id: string, json: string): Html {
  const text = json.replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return html`<script type="application/json" id="${id}">${new Html(text)}</script>`;
}
