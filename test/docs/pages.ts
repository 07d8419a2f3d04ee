/** The pages of docs/: their parts, and their examples with what they print. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const DOCS = join(import.meta.dir, "../../docs");

export interface Page {
  readonly name: string;
  readonly text: string;
}

export interface Example {
  readonly command: string;
  /** As the page has it. */
  readonly output: string;
}

export interface Block {
  /** The word behind the fence: "console", "sh". */
  readonly kind: string;
  readonly text: string;
}

/** Each command's page, by name. */
export function pages(): Page[] {
  return readdirSync(DOCS)
    .filter((file) => file.endsWith(".md"))
    .sort()
    .map((file) => ({ name: file.replace(/\.md$/, ""), text: readFileSync(join(DOCS, file), "utf8") }));
}

export const savePage = ({ name }: Page, text: string): void => writeFileSync(join(DOCS, `${name}.md`), text);

export function blocks(text: string): Block[] {
  return [...text.matchAll(/^```([a-z ]*)\n(.*?)^```$/gms)].map(([, kind = "", body = ""]) => ({
    kind,
    text: body,
  }));
}

/** `$ ` begins a command; what follows is what it prints. */
export function examples({ text }: Block): Example[] {
  return text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const end = part.indexOf("\n");
      return { command: part.slice(0, end), output: part.slice(end + 1) };
    });
}

/** A page's headings of the second level. */
export const headings = (text: string): string[] =>
  [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading!);

/** What stands under a heading. */
export function section(text: string, heading: string): string {
  return text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
}

/** The options of its tables: "--limit N", with its short form in front where it has one. */
export function optionRows(text: string): string[] {
  return [...section(text, "Options").matchAll(/^\| (`-(?:\\\||[^|])*?)\s*\|/gm)].map(([, cell]) =>
    cell!.replaceAll("`", "").replaceAll("\\|", "|"),
  );
}
