/** Parses the pages of docs/: sections, code blocks, examples with their output, tables of options. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const DOCS = join(import.meta.dir, "../../docs");

export interface Page {
  readonly name: string;
  readonly text: string;
}

export interface Example {
  readonly command: string;
  /** Output on the page. */
  readonly output: string;
}

export interface Block {
  /** Word after the fence: "console", "sh". */
  readonly kind: string;
  readonly text: string;
}

/** Reads all pages, sorted by name. */
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

/** Splits a block into commands, which begin with `$ `, and the output that follows each. */
export function examples({ text }: Block): Example[] {
  return text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const end = part.indexOf("\n");
      return { command: part.slice(0, end), output: part.slice(end + 1) };
    });
}

/** Returns the second-level headings of a page. */
export const headings = (text: string): string[] =>
  [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading!);

/** Returns the section with this heading, heading included; empty if there is none. */
export function section(text: string, heading: string): string {
  return text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
}

/** Returns the options in the table under "Options", such as "--limit N" or "-o, --output FILE". */
export function optionRows(text: string): string[] {
  return [...section(text, "Options").matchAll(/^\| (`-(?:\\\||[^|])*?)\s*\|/gm)].map(([, cell]) =>
    cell!.replaceAll("`", "").replaceAll("\\|", "|"),
  );
}
