/**
 * Renders values as text:
 *
 *     { pid = 42, comm = "bash", in = [1, 0 <6 times>], next = 0xffff888000001000 }
 *
 * A value that does not fit on one line is printed on several lines. Names and strings from the machine are escaped, so
 * they cannot send control sequences to the terminal.
 */
import { escapeText, printable } from "../text.ts";
import type { Btf } from "./btf.ts";
import { declaration } from "./declare.ts";
import { readFloat } from "./float.ts";
import { bytesOfBits, readBits, readInteger } from "./integer.ts";
import {
  type ArrayTypeShape,
  type IntShape,
  type MemberShape,
  type SectionShape,
  type Shape,
  type StructShape,
  shapeOf,
} from "./shape.ts";
import { ValueWalk } from "./value-walk.ts";

export interface TextOptions {
  /** Maximum line width in columns. Default 100. */
  readonly width?: number;
  /** Maximum number of elements printed per array. A run of equal elements counts as one. Default 64. */
  readonly limit?: number;
  /** Print the C type before each variable of a section. */
  readonly types?: boolean;
  /** Returns the symbol at a kernel address: "schedule+0x10". */
  readonly symbol?: (address: bigint) => string | undefined;
  /** Returns the name for a pointer to a function. It is tried before `symbol`: a struct_ops value holds program ids here. */
  readonly callee?: (value: bigint) => string | undefined;
  /** The arena that pointers can point into, at the address that its BPF programs use. */
  readonly arena?: { readonly base: bigint; readonly size: number };
}

/** Shortest run of equal elements that is folded. */
const FOLD_FROM = 4;
/** Maximum number of bytes printed per string. */
const MAX_STRING = 4096;
const NOT_THERE = "<not there>";

/** Renders a value as one or more lines without a final newline. Throws `FormatError` if the type is hostile. */
export function valueText(btf: Btf, typeId: number, bytes: Uint8Array, options: TextOptions = {}): string {
  return new TextRenderer(btf, bytes, options).value(shapeOf(btf, typeId), 0, 0, "", true);
}

class TextRenderer {
  readonly #walk: ValueWalk;
  readonly #options: TextOptions;
  readonly #width: number;
  readonly #limit: number;

  constructor(btf: Btf, bytes: Uint8Array, options: TextOptions) {
    this.#walk = new ValueWalk(btf, bytes);
    this.#options = options;
    this.#width = options.width ?? 100;
    this.#limit = options.limit ?? 64;
  }

  /**
   * Renders a value. `indent` starts every line after the first. `last`: no bytes follow the value, so a flexible array
   * extends to the end.
   */
  value(shape: Shape, at: number, bitOffset: number, indent: string, last: boolean): string {
    const walk = this.#walk;
    walk.countPart();
    switch (shape.kind) {
      case "int":
        return this.#int(shape, at, bitOffset);
      case "struct":
        return this.#struct(shape, at, indent, last);
      case "array":
        return this.#array(shape, at, indent, last);
      case "none":
        return `<${escapeText(shape.what)}>`;
      case "variable":
        return this.#nested(shape.shape, at, indent);
      case "section":
        return this.#section(shape, at, indent);
      default:
        return walk.has(at, shape.size) ? this.#scalar(shape, at) : NOT_THERE;
    }
  }

  #nested(shape: Shape, at: number, indent: string, last = false): string {
    this.#walk.enter();
    const text = this.value(shape, at, 0, indent, last);
    this.#walk.leave();
    return text;
  }

  #scalar(shape: Shape & { kind: "enum" | "pointer" | "float" }, at: number): string {
    const { bytes } = this.#walk;
    if (shape.kind === "pointer") return this.#pointer(at, shape.toFunction);
    if (shape.kind === "float")
      return String(readFloat(bytes, at, shape.size) ?? `<float of ${shape.size} bytes>`);
    const value = readInteger(bytes, at, shape.size, shape.signed);
    return escapeText(shape.names.get(value) ?? String(value));
  }

  #pointer(at: number, toFunction: boolean): string {
    const address = BigInt(readInteger(this.#walk.bytes, at, 8, false));
    if (address === 0n) return "NULL";
    const { arena, callee, symbol } = this.#options;
    if (arena !== undefined && address >= arena.base && address < arena.base + BigInt(arena.size))
      return `arena+0x${(address - arena.base).toString(16)}`;
    const called = toFunction ? callee?.(address) : undefined;
    if (called !== undefined) return escapeText(called);
    const near = symbol?.(address);
    const text = `0x${address.toString(16)}`;
    return near === undefined ? text : `${text} <${escapeText(near)}>`;
  }

  #int(shape: IntShape, at: number, memberBitOffset: number): string {
    const walk = this.#walk;
    const bitOffset = memberBitOffset + shape.bitOffset;
    const whole = bitOffset === 0 && shape.bits === shape.size * 8;
    if (!walk.has(at, whole ? shape.size : bytesOfBits(bitOffset, shape.bits))) return NOT_THERE;
    if (!whole) return this.#bits(shape, at, bitOffset, shape.bits);
    const value = readInteger(walk.bytes, at, shape.size, shape.signed);
    if (shape.bool) return value === 0 ? "false" : value === 1 ? "true" : `true (${value})`;
    if (shape.char && Number(value) >= 0x20 && Number(value) <= 0x7e)
      return `${value} '${String.fromCharCode(Number(value))}'`;
    return String(value);
  }

  #bits(shape: Shape, at: number, bitOffset: number, bitCount: number): string {
    if (!this.#walk.has(at, bytesOfBits(bitOffset, bitCount))) return NOT_THERE;
    const signed = (shape.kind === "int" || shape.kind === "enum") && shape.signed;
    const value = readBits(this.#walk.bytes, at, bitOffset, bitCount, signed);
    if (shape.kind === "int" && shape.bool) return value === 0 ? "false" : "true";
    if (shape.kind === "enum") return escapeText(shape.names.get(value) ?? String(value));
    return String(value);
  }

  #struct(shape: StructShape, at: number, indent: string, last: boolean): string {
    const items: string[] = [];
    this.#walk.enter();
    this.#members(shape, at, `${indent}  `, last, items);
    this.#walk.leave();
    return `${shape.union ? "union " : ""}${this.#block("{", items, "}", indent)}`;
  }

  #members(shape: StructShape, at: number, indent: string, last: boolean, items: string[]): void {
    const { members } = shape;
    for (let n = 0; n < members.length; n++) {
      const member = members[n]!;
      const byteAt = at + (member.bitOffset >>> 3);
      const isLast = last && (shape.union || n === members.length - 1);
      if (member.name === "" && member.shape.kind === "struct" && !member.shape.union) {
        this.#walk.countPart();
        this.#walk.enter();
        this.#members(member.shape, byteAt, indent, isLast, items);
        this.#walk.leave();
      } else {
        const text = this.#member(member, byteAt, indent, isLast);
        items.push(member.name === "" ? text : `${escapeText(member.name)} = ${text}`);
      }
    }
  }

  #member({ shape, bitOffset, bitSize }: MemberShape, at: number, indent: string, last: boolean): string {
    if (bitSize === 0) return this.value(shape, at, bitOffset & 7, indent, last);
    this.#walk.countPart();
    return this.#bits(shape, at, bitOffset & 7, bitSize);
  }

  #array(shape: ArrayTypeShape, at: number, indent: string, last: boolean): string {
    const { element } = shape;
    const room = Math.max(0, this.#walk.end - at);
    const flexible = last && shape.count === 0 && element.size > 0;
    const count = flexible ? Math.floor(room / element.size) : shape.count;
    if (shape.text) return this.#string(at, count, room);
    const inner = `${indent}  `;
    const items: string[] = [];
    const lines: string[] = [];
    this.#walk.enter();
    let n = 0;
    while (n < count && items.length < this.#limit && (element.size > 0 || items.length === 0)) {
      const text = this.value(element, at + n * element.size, 0, inner, false);
      const run = text === NOT_THERE ? count - n : this.#runLength(at, element.size, n, count);
      const folded = run >= FOLD_FROM ? run : 1;
      items.push(folded > 1 ? `${text} <${folded} times>` : text);
      lines.push(folded > 1 ? `[${n}..${n + folded - 1}] = ${text}` : `[${n}] = ${text}`);
      n += folded;
    }
    this.#walk.leave();
    if (n < count) items.push(`... ${count - n} more`);
    if (n < count) lines.push(`... ${count - n} more`);
    const simple = element.kind !== "struct" && element.kind !== "array";
    return simple ? this.#filled(items, indent) : this.#block("[", items, "]", indent, lines);
  }

  /** Returns the number of elements from `n` on that have the same bytes. */
  #runLength(at: number, size: number, n: number, count: number): number {
    const { bytes } = this.#walk;
    const first = at + n * size;
    const end = Math.min(at + count * size, bytes.length);
    let next = first + size;
    while (next < end && bytes[next] === bytes[next - size]) next++;
    return Math.max(1, Math.floor((next - first) / size));
  }

  /** Renders a char array up to its NUL. If it has no NUL, its length is printed too. */
  #string(at: number, count: number, room: number): string {
    if (count > room) return NOT_THERE;
    const bytes = this.#walk.bytes.subarray(at, at + count);
    const nul = bytes.indexOf(0);
    const length = nul < 0 ? count : nul;
    const text = `"${printable(bytes.subarray(0, Math.min(length, MAX_STRING))).replaceAll('"', '\\"')}"`;
    if (length > MAX_STRING) return `${text}... (${length} bytes)`;
    return nul < 0 && count > 0 ? `${text} (${count} bytes, no NUL)` : text;
  }

  #section(shape: SectionShape, at: number, indent: string): string {
    const walk = this.#walk;
    const lines = shape.variables.map(({ name, typeId, offset, size, shape: variable }) => {
      const { end } = walk;
      const larger = size > variable.size;
      if (larger) walk.end = Math.min(end, at + offset + size);
      const text = this.#nested(variable, at + offset, indent, larger);
      walk.end = end;
      const what = this.#options.types === true ? declaration(this.#walk.btf, typeId, name) : name;
      return `${escapeText(what)} = ${text}`;
    });
    return lines.join(`\n${indent}`);
  }

  /** Prints the items on one line if they fit, else one per line. */
  #block(open: string, items: readonly string[], close: string, indent: string, lines = items): string {
    if (items.length === 0) return `${open}${close}`;
    const pad = open === "{" ? " " : "";
    const oneLine = `${open}${pad}${items.join(", ")}${pad}${close}`;
    if (!oneLine.includes("\n") && indent.length + oneLine.length <= this.#width) return oneLine;
    return `${open}\n${lines.map((line) => `${indent}  ${line}\n`).join("")}${indent}${close}`;
  }

  /** Prints a list and breaks lines at the maximum width. */
  #filled(items: readonly string[], indent: string): string {
    const oneLine = `[${items.join(", ")}]`;
    if (indent.length + oneLine.length <= this.#width) return oneLine;
    const lines: string[] = [];
    let line = "";
    for (const [n, item] of items.entries()) {
      const piece = n < items.length - 1 ? `${item},` : item;
      if (line !== "" && indent.length + 2 + line.length + 1 + piece.length > this.#width) {
        lines.push(line);
        line = "";
      }
      line = line === "" ? piece : `${line} ${piece}`;
    }
    lines.push(line);
    return `[\n${lines.map((full) => `${indent}  ${full}\n`).join("")}${indent}]`;
  }
}
