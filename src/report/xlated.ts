/**
 * A program's translated instructions as bpftool prints them (tools/bpf/bpftool/xlated_dumper.c), with source lines and
 * prototypes from the program's BTF.
 */

import type { Btf } from "../btf/btf.ts";
import { signature } from "../btf/signature.ts";
import { FormatError } from "../errors.ts";
import { resetJitThreshold } from "../jit-threshold.ts";
import {
  type CallTargets,
  callAddress,
  LINE_FILE,
  LINE_INSN,
  LINE_PLACE,
  LINE_TEXT,
  LINE_WORDS,
  type ProgCode,
} from "../prog-code.ts";
import { escapeSource } from "../text.ts";
import { disassemble, type Insn, insnAt, LOAD_IMM64, type Operands, PSEUDO_CALL } from "../uapi/disasm.ts";
import { viewOf } from "../uapi/layout.ts";
import { InsnText } from "./insn-text.ts";
import { stringify } from "./json.ts";
import type { Output } from "./output.ts";

export interface XlatedStyle {
  /** Print the bytes of instructions. */
  readonly opcodes: boolean;
  /** Print file, line and column of the source. */
  readonly linum: boolean;
}

/** A source line. Members that the BTF does not have are undefined. */
export interface SourceLine {
  readonly text: string | undefined;
  readonly file: string | undefined;
  readonly line: number;
  readonly column: number;
}

/** A program's code, with names. */
export class Xlated {
  readonly view: DataView;
  readonly count: number;
  readonly #code: ProgCode;
  readonly #btf: Btf | undefined;
  readonly #operands: Operands;
  readonly #bytes: Uint8Array;

  /** `btf`: undefined if the program has none. */
  constructor(code: ProgCode, targets: CallTargets, btf: Btf | undefined) {
    this.#code = code;
    this.#btf = btf;
    this.#bytes = code.insns;
    this.view = viewOf(code.insns);
    this.count = this.view.byteLength >>> 3;
    this.#operands = { call: (insn) => nameCall(insn, code, targets) };
  }

  get functions(): ProgCode["functions"] {
    return this.#btf === undefined ? [] : this.#code.functions;
  }

  get lineCount(): number {
    return this.#btf === undefined ? 0 : Math.floor(this.#code.lines.length / LINE_WORDS);
  }

  /** Index of the first instruction of a line. */
  lineInsn(line: number): number {
    return this.#code.lines[line * LINE_WORDS + LINE_INSN] ?? 0;
  }

  /** Returns the last line that begins at or before an instruction; -1: none. */
  lineAt(index: number): number {
    let low = 0;
    let high = this.lineCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.lineInsn(middle) <= index) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  text(index: number): string {
    return disassemble(insnAt(this.view, index), this.#operands);
  }

  /** Text for the terminal, with hostile names escaped. */
  safeText(index: number): string {
    return escapeSource(this.text(index));
  }

  /** Whether the instruction takes two slots (a 64-bit immediate). */
  isDouble(index: number): boolean {
    return this.#bytes[index * 8] === LOAD_IMM64 && index + 1 < this.count;
  }

  prototype(typeId: number): string {
    return this.#btf === undefined ? "" : signature(this.#btf, typeId);
  }

  source(line: number): SourceLine {
    const { lines } = this.#code;
    const at = line * LINE_WORDS;
    const place = lines[at + LINE_PLACE] ?? 0;
    return {
      text: this.#string(lines[at + LINE_TEXT])?.replace(/^[ \t\n\v\f\r]+/, ""),
      file: this.#string(lines[at + LINE_FILE]),
      // BPF_LINE_INFO_LINE_NUM and _COL (include/uapi/linux/bpf.h).
      line: place >>> 10,
      column: place & 0x3ff,
    };
  }

  #string(offset: number | undefined): string | undefined {
    if (offset === undefined || this.#btf === undefined) return undefined;
    try {
      return this.#btf.string(offset);
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  }
}

/** Lines printed before an instruction. */
interface Row {
  /** "" if no function begins here. */
  readonly prototype: string;
  /** undefined: no line begins here. */
  readonly source: SourceLine | undefined;
}

/** Iterates over the functions and lines of a program, in order of instructions. */
export class LineWalk {
  readonly #xlated: Xlated;
  #nextFunction = 0;
  #taken = 0;
  #line = 0;
  /** Next instruction with a `Row`; the number of instructions at the end. */
  next = 0;

  constructor(xlated: Xlated) {
    this.#xlated = xlated;
    this.#findNext(0);
  }

  /** Returns the row of instruction `next`, and advances. */
  take(): Row {
    const xlated = this.#xlated;
    const index = this.next;
    const own = xlated.functions[this.#nextFunction];
    let prototype = "";
    if (own?.insn === index) {
      prototype = xlated.prototype(own.typeId);
      this.#nextFunction++;
    }
    // `bpf_prog_linfo__lfind` of libbpf: the last line at or before the instruction. Skips the lines that were returned before.
    let source: SourceLine | undefined;
    if (this.#taken < xlated.lineCount && xlated.lineInsn(this.#taken) <= index) {
      this.#line = Math.max(this.#line, this.#taken);
      while (this.#line + 1 < xlated.lineCount && xlated.lineInsn(this.#line + 1) <= index) this.#line++;
      source = xlated.source(this.#line);
      this.#taken++;
    }
    this.#findNext(index + (xlated.isDouble(index) ? 2 : 1));
    return { prototype, source };
  }

  /** Finds the next row. A function or line may begin in the second slot of an instruction, which is not printed by itself. */
  #findNext(from: number): void {
    const xlated = this.#xlated;
    let next = xlated.count;
    if (this.#taken < xlated.lineCount) next = Math.min(next, Math.max(from, xlated.lineInsn(this.#taken)));
    const own = xlated.functions[this.#nextFunction]?.insn;
    if (own !== undefined && own >= from) next = Math.min(next, own);
    this.next = next;
  }
}

/** xlated_dumper.c, `print_call`. */
function nameCall(insn: Insn, code: ProgCode, { base, names }: CallTargets): string {
  const address = callAddress(insn.source, insn.immediate, base, code);
  const name = names.get(address) ?? `0x${address.toString(16)}`;
  if (insn.source !== PSEUDO_CALL) return name;
  const distance = insn.offset < 0 ? String(insn.offset) : `+${insn.offset}`;
  return code.functionCount === 0 ? distance : `${distance}#${name}`;
}

/** Minimum number of instructions for which compiled code of the printer saves time. */
const LONG_PROGRAM = 4096;

/** Length of text that is joined before it is written, in UTF-16 units. */
const PIECE_UNITS = 32 * 1024;

/** `dump_xlated_plain`. */
export function xlatedText(out: Output, xlated: Xlated, { opcodes, linum }: XlatedStyle): void {
  if (xlated.count > LONG_PROGRAM) resetJitThreshold();
  const lines = new LineWalk(xlated);
  const insns = new InsnText(xlated, "", "\n", (index) => `${xlated.safeText(index)}\n`);
  let text = "";
  for (let index = 0; index < xlated.count; index++) {
    if (index === lines.next) {
      const { prototype, source } = lines.take();
      if (prototype !== "") text += `${escapeSource(prototype)}:\n`;
      text += sourceText(source, linum);
    }
    text += `${index < 1000 ? String(index).padStart(4) : index}: `;
    text += insns.at(index);
    const isDouble = xlated.isDouble(index);
    if (opcodes) text += `       ${hex(xlated.view, 8 * index, isDouble ? 16 : 8).join(" ")}\n`;
    if (isDouble) index++;
    if (text.length < PIECE_UNITS) continue;
    out.text(text);
    text = "";
  }
  out.text(text);
}

/** bpftool's `btf_dump_linfo_plain`; "" if no line begins here, or its text is not known. */
export function sourceText(source: SourceLine | undefined, linum: boolean): string {
  if (source?.text === undefined) return "";
  const place = ` [file:${escapeSource(source.file ?? "")} line_num:${source.line} line_col:${source.column}]`;
  return `; ${escapeSource(source.text)}${linum ? place : ""}\n`;
}

/** bpftool's `dump_xlated_json`. Prints one line, or indented lines if `indent` is not "". */
export function xlatedJson(out: Output, xlated: Xlated, style: XlatedStyle, indent: string): void {
  if (xlated.count > LONG_PROGRAM) resetJitThreshold();
  const gap = indent === "" ? "" : `\n${indent}`;
  const pretty = (text: string): string =>
    indent === "" ? text : stringify(JSON.parse(text), indent).replaceAll("\n", gap);
  const lines = new LineWalk(xlated);
  const isBare = !style.opcodes && indent === "";
  const insns = new InsnText(xlated, '{"disasm":"', '"}', (index) =>
    rowJson(xlated, index, undefined, style),
  );
  const { count, view } = xlated;
  const between = `,${gap}`;
  let text = count === 0 ? "[" : `[${gap}`;
  let next = lines.next;
  for (let index = 0; index < count; index++) {
    if (index > 0) text += between;
    if (isBare && index !== next) text += insns.at(index);
    else {
      const row = index === next ? lines.take() : undefined;
      next = lines.next;
      text += pretty(rowJson(xlated, index, row, style));
    }
    if (view.getUint8(8 * index) === LOAD_IMM64) index++;
    if (text.length < PIECE_UNITS) continue;
    out.text(text);
    text = "";
  }
  out.text(`${text}${indent === "" || xlated.count === 0 ? "" : "\n"}]`);
}

function rowJson(
  xlated: Xlated,
  index: number,
  row: Row | undefined,
  { opcodes, linum }: XlatedStyle,
): string {
  let members = `"disasm":${stringify(xlated.text(index))}`;
  if (row !== undefined) {
    members = sourceJson(row.source, linum) + members;
    if (row.prototype !== "") members = `"proto":${stringify(row.prototype)},${members}`;
  }
  if (opcodes) members += opcodesJson(xlated.view, 8 * index, xlated.isDouble(index));
  return `{${members}}`;
}

/** bpftool's `btf_dump_linfo_json`: the first members of an object; "" if no line begins here. */
export function sourceJson(source: SourceLine | undefined, linum: boolean): string {
  if (source === undefined) return "";
  let text = source.text === undefined ? "" : `"src":${stringify(source.text)},`;
  if (!linum) return text;
  if (source.file !== undefined) text += `"file":${stringify(source.file)},`;
  if (source.line !== 0) text += `"line_num":${source.line},`;
  if (source.column !== 0) text += `"line_col":${source.column},`;
  return text;
}

function opcodesJson(view: DataView, at: number, isDouble: boolean): string {
  const registers = view.getUint8(at + 1);
  let text = `,"opcodes":{"code":${JSON_BYTES[view.getUint8(at)]},"src_reg":"0x${(registers >> 4).toString(16)}"`;
  text += `,"dst_reg":"0x${(registers & 15).toString(16)}","off":[`;
  text += `${JSON_BYTES[view.getUint8(at + 2)]},${JSON_BYTES[view.getUint8(at + 3)]}],"imm":[`;
  const end = at + (isDouble ? 16 : 8);
  for (let byte = at + 4; byte < end; byte++)
    text += byte === at + 4 ? JSON_BYTES[view.getUint8(byte)] : `,${JSON_BYTES[view.getUint8(byte)]}`;
  return `${text}]}`;
}

const BYTES: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export const JSON_BYTES: readonly string[] = BYTES.map((digits) => `"0x${digits}"`);

export function hex(view: DataView, offset: number, length: number): string[] {
  const digits: string[] = [];
  for (let at = offset; at < offset + length; at++) digits.push(BYTES[view.getUint8(at)]!);
  return digits;
}
