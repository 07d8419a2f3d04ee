/** Values in the page: short ones on one line, long ones folded. */
import type { TextOptions } from "../../btf/text.ts";
import { type TypeRef, text } from "../typed.ts";
import { sizeText } from "../units.ts";
import { Html, html, type Part } from "./markup.ts";

/** Width of a value's lines in columns. */
const WIDTH = 96;
/** Limit on elements of one array. */
const MAX_ELEMENTS = 4096;
/** Limits on the characters of one value's text, and on the bytes of one value in hexadecimal. */
const MAX_CHARACTERS = 65_536;
const MAX_BYTES = 16_384;
/** Limit on separately folded parts of one value. */
const MAX_FOLDS = 256;
const MAX_DEPTH = 16;
/** Parts with at least this many lines are closed when the page opens. */
const LONG_LINES = 12;
const LINE_BYTES = 32;
const GROUP_BYTES = 8;

/** Formats bytes by their type, or in hexadecimal if there is no type. */
export function valueHtml(type: TypeRef | undefined, bytes: Uint8Array, options?: TextOptions): Part {
  if (type === undefined) return bytesHtml(bytes);
  const whole = typedText(type, bytes, options);
  return whole.includes("\n") ? folded(whole) : html`<code>${whole}</code>`;
}

export function typedText(type: TypeRef, bytes: Uint8Array, options?: TextOptions): string {
  const whole = text(type, bytes, { ...options, width: WIDTH, limit: MAX_ELEMENTS });
  if (whole.length <= MAX_CHARACTERS) return whole;
  return `${whole.slice(0, MAX_CHARACTERS)}\n... cut: ${sizeText(whole.length)} of text`;
}

/** A value of several lines, in which each struct and array of several lines can be folded. */
export function folded(lines: string): Html {
  let left = MAX_FOLDS;
  return block(lines.split("\n"), 0);

  function block(part: readonly string[], depth: number): Html {
    const pieces: Part[] = [];
    let plain: string[] = [];
    const endPlain = (): void => {
      if (plain.length > 0) pieces.push(html`<pre>${plain.join("\n")}</pre>`);
      plain = [];
    };
    for (let at = 0; at < part.length; at++) {
      const end = endOfBlock(part, at);
      if (end < 0 || depth >= MAX_DEPTH || left <= 0) {
        plain.push(part[at] ?? "");
        continue;
      }
      left--;
      endPlain();
      const inner = part.slice(at + 1, end);
      const isLong = inner.length > LONG_LINES;
      const title = `${(part[at] ?? "").trim()} ... ${(part[end] ?? "").trim()}`;
      pieces.push(
        html`<details${new Html(isLong ? "" : " open")}><summary>${title}</summary>${block(inner.map(unindented), depth + 1)}</details>`,
      );
      at = end;
    }
    endPlain();
    return html`${pieces}`;
  }
}

const indentOf = (line: string): number => line.length - line.trimStart().length;
const unindented = (line: string): string => line.replace(/^ {2}/, "");

/** Returns the line that closes the block opened at line `at`; -1: no block. Strings in values are escaped and cannot add lines. */
function endOfBlock(lines: readonly string[], at: number): number {
  const line = lines[at] ?? "";
  if (!/[{[]$/.test(line)) return -1;
  const indent = indentOf(line);
  for (let end = at + 1; end < lines.length; end++)
    if (indentOf(lines[end] ?? "") <= indent) return /^ *[}\]]/.test(lines[end] ?? "") ? end : -1;
  return -1;
}

/** Prints one line if it fits. Otherwise shows the first bytes, and all bytes when it is unfolded. */
export function bytesHtml(bytes: Uint8Array): Part {
  if (bytes.length <= LINE_BYTES) return html`<code>${spaced(hex(bytes), 1)}</code>`;
  const start = spaced(hex(bytes.subarray(0, GROUP_BYTES)), 1);
  return html`<details><summary>${start} ... <small>${sizeText(bytes.length)}</small></summary><pre>${dumpText(bytes)}</pre></details>`;
}

/** Prints lines of offset and bytes. Like hexdump(1), `*` replaces lines that repeat the previous one. */
function dumpText(bytes: Uint8Array): string {
  const shown = bytes.subarray(0, MAX_BYTES);
  const lines: string[] = [];
  let before = "";
  for (let at = 0; at < shown.length; at += LINE_BYTES) {
    const line = spaced(hex(shown.subarray(at, at + LINE_BYTES)), GROUP_BYTES);
    if (line !== before) lines.push(`${at.toString(16).padStart(4, "0")}  ${line}`);
    else if (lines.at(-1) !== "*") lines.push("*");
    before = line;
  }
  lines.push(shown.length.toString(16).padStart(4, "0"));
  if (shown.length < bytes.length) lines.push(`... ${sizeText(bytes.length)} in all`);
  return lines.join("\n");
}

const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");

/** Inserts a blank after each group of `groupBytes` bytes. */
function spaced(digits: string, groupBytes: number): string {
  return digits.match(new RegExp(`.{1,${2 * groupBytes}}`, "g"))?.join(" ") ?? "";
}
