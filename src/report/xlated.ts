/**
 * A program's translated instructions as bpftool prints them (tools/bpf/bpftool/xlated_dumper.c), with the source lines and the
 * prototypes that its BTF has.
 */
import type { Btf } from "../btf/btf.ts";
import { signature } from "../btf/signature.ts";
import { FormatError } from "../errors.ts";
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
import { stringify } from "./json.ts";
import type { Output } from "./output.ts";

export interface XlatedStyle {
  /** The instructions' bytes. */
  readonly opcodes: boolean;
  /** File, line and column of the source. */
  readonly linum: boolean;
}

/** A source line. What its BTF does not have is undefined. */
export interface SourceLine {
  readonly text: string | undefined;
  readonly file: string | undefined;
  readonly line: number;
  readonly column: number;
}

/** A program's code with the names for it. */
export class Xlated {
  readonly view: DataView;
  readonly count: number;
  readonly #code: ProgCode;
  readonly #btf: Btf | undefined;
  readonly #operands: Operands;

  /** `btf`: undefined where the program has none. */
  constructor(code: ProgCode, targets: CallTargets, btf: Btf | undefined) {
    this.#code = code;
    this.#btf = btf;
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

  /** The first instruction of a line. */
  lineInsn(line: number): number {
    return this.#code.lines[line * LINE_WORDS + LINE_INSN] ?? 0;
  }

  /** The last line that begins at an instruction or before it; -1: none. */
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

  isDouble(index: number): boolean {
    return this.view.getUint8(index * 8) === LOAD_IMM64;
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

  /** What is printed before each instruction, in order; the second half of a 64-bit immediate is left out. */
  *rows(): Generator<Row> {
    const { functions, lineCount } = this;
    let nextFunction = 0;
    let told = 0;
    let line = 0;
    for (let index = 0; index < this.count; index++) {
      const own = functions[nextFunction];
      let prototype = "";
      if (own?.insn === index) {
        prototype = this.prototype(own.typeId);
        nextFunction++;
      }
      // libbpf, `bpf_prog_linfo__lfind`: the last line that begins here or before, of those behind the first `told`.
      let source: SourceLine | undefined;
      if (told < lineCount && this.lineInsn(told) <= index) {
        line = Math.max(line, told);
        while (line + 1 < lineCount && this.lineInsn(line + 1) <= index) line++;
        source = this.source(line);
        told++;
      }
      const isDouble = this.isDouble(index);
      yield { index, prototype, source, isDouble: isDouble && index + 1 < this.count };
      if (isDouble) index++;
    }
  }
}

interface Row {
  readonly index: number;
  /** "" where no function begins. */
  readonly prototype: string;
  /** undefined: no line begins. */
  readonly source: SourceLine | undefined;
  /** The instruction behind it belongs to it. */
  readonly isDouble: boolean;
}

/** xlated_dumper.c, `print_call`. */
function nameCall(insn: Insn, code: ProgCode, { base, names }: CallTargets): string {
  const address = callAddress(insn.source, insn.immediate, base, code);
  const name = names.get(address) ?? `0x${address.toString(16)}`;
  if (insn.source !== PSEUDO_CALL) return name;
  const distance = insn.offset < 0 ? String(insn.offset) : `+${insn.offset}`;
  return code.functionCount === 0 ? distance : `${distance}#${name}`;
}

/** `dump_xlated_plain`. */
export function xlatedText(out: Output, xlated: Xlated, { opcodes, linum }: XlatedStyle): void {
  for (const { index, prototype, source, isDouble } of xlated.rows()) {
    if (prototype !== "") out.text(`${escapeSource(prototype)}:\n`);
    out.text(sourceText(source, linum));
    out.text(`${String(index).padStart(4)}: ${escapeSource(xlated.text(index))}\n`);
    if (!opcodes) continue;
    const rest = isDouble ? ` ${hex(xlated.view, 8 * index + 8, 8).join(" ")}` : "";
    out.text(`       ${hex(xlated.view, 8 * index, 8).join(" ")}${rest}\n`);
  }
}

/** `btf_dump_linfo_plain`: "" where no line begins, or its text is not known. */
export function sourceText(source: SourceLine | undefined, linum: boolean): string {
  if (source?.text === undefined) return "";
  const place = ` [file:${escapeSource(source.file ?? "")} line_num:${source.line} line_col:${source.column}]`;
  return `; ${escapeSource(source.text)}${linum ? place : ""}\n`;
}

/** `dump_xlated_json`, on one line; `indent` prints the same in many. */
export function xlatedJson(out: Output, xlated: Xlated, style: XlatedStyle, indent: string): void {
  let separator = "";
  const gap = indent === "" ? "" : `\n${indent}`;
  out.text("[");
  for (const row of xlated.rows()) {
    const text = rowJson(xlated, row, style);
    const pretty = indent === "" ? text : stringify(JSON.parse(text), indent).replaceAll("\n", gap);
    out.text(`${separator}${gap}${pretty}`);
    separator = ",";
  }
  out.text(`${indent === "" || separator === "" ? "" : "\n"}]`);
}

/** One instruction's object. There are a hundred thousand of them: text that needs no look at what it is made of. */
function rowJson(
  xlated: Xlated,
  { index, prototype, source, isDouble }: Row,
  { opcodes, linum }: XlatedStyle,
): string {
  let text = "{";
  if (prototype !== "") text += `"proto":${stringify(prototype)},`;
  text += `${sourceJson(source, linum)}"disasm":${stringify(xlated.text(index))}`;
  return `${text}${opcodes ? opcodesJson(xlated.view, 8 * index, isDouble) : ""}}`;
}

/** `btf_dump_linfo_json`: members of an object that goes on; "" where no line begins. */
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
