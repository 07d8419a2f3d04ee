/** A program's machine code as bpftool prints it (tools/bpf/bpftool/prog.c, `prog_dump`; jit_disasm.c, `disasm_print_insn`). */
import type { Disassembler, MachineFunction, MachineInsn, ProgCode } from "../prog-code.ts";
import { escapeSource, escapeText } from "../text.ts";
import { viewOf } from "../uapi/layout.ts";
import { stringify } from "./json.ts";
import type { Output } from "./output.ts";
import {
  hex,
  JSON_BYTES,
  type SourceLine,
  sourceJson,
  sourceText,
  type Xlated,
  type XlatedStyle,
} from "./xlated.ts";

/** A program's machine code, with names. */
export interface Jited {
  readonly functions: readonly MachineFunction[];
  /** For each function, the symbol at its start; undefined: there is none. */
  readonly names: readonly (string | undefined)[];
  readonly code: ProgCode;
  /** Source of lines and prototypes. */
  readonly xlated: Xlated;
  readonly disassembler: Disassembler;
}

interface Row {
  readonly insn: MachineInsn;
  /** undefined: no line begins here. */
  readonly source: SourceLine | undefined;
}

/** Indexes of one function's lines: `first` up to, but not including, `end`. */
interface Range {
  readonly first: number;
  readonly end: number;
}

/**
 * Assigns lines to functions, as libbpf's `dissect_jited_func` does (tools/lib/bpf/bpf_prog_linfo.c). Returns an empty list
 * if no lines are known, undefined if the lines do not match the functions' addresses.
 */
export function linesByFunction(
  code: ProgCode,
  functions: readonly MachineFunction[],
  lineCount: number,
): Range[] | undefined {
  const { lineAddresses } = code;
  if (lineCount === 0 || lineAddresses.length !== lineCount || functions.length === 0) return [];
  if (lineAddresses[0] !== functions[0]!.address) return undefined;
  const ranges: Range[] = [];
  let first = 0;
  for (let line = 1; line < lineCount && ranges.length + 1 < functions.length; line++) {
    const before = lineAddresses[line - 1]!;
    const own = functions[ranges.length]!;
    if (lineAddresses[line] === functions[ranges.length + 1]!.address) {
      if (before - own.address + 1n > BigInt(own.bytes.length)) return undefined;
      ranges.push({ first, end: line });
      first = line;
    } else if (lineAddresses[line]! <= before) return undefined;
  }
  ranges.push({ first, end: lineCount });
  return ranges.length === functions.length ? ranges : undefined;
}

/** Decodes instructions in order. Each has its source line as in libbpf's `bpf_prog_linfo__lfind_addr_func`; each line is returned once. */
function* rowsOf(
  { code, xlated, disassembler }: Jited,
  { address, bytes }: MachineFunction,
  range: Range | undefined,
): Generator<Row> {
  const { first, end } = range ?? { first: 0, end: 0 };
  let taken = first;
  let line = first;
  for (const insn of disassembler.decode(bytes, address)) {
    const at = address + BigInt(insn.offset);
    let source: SourceLine | undefined;
    if (taken < end && code.lineAddresses[taken]! <= at) {
      line = Math.max(line, taken);
      while (line + 1 < end && code.lineAddresses[line + 1]! <= at) line++;
      source = xlated.source(line);
      taken++;
    }
    yield { insn, source };
  }
}

function nameOf({ names, functions }: Jited, index: number): string {
  return names[index] ?? `0x${functions[index]!.address.toString(16).padStart(16, "0")}`;
}

function prototypeOf({ xlated }: Jited, index: number): string {
  const own = xlated.functions[index];
  return own === undefined ? "" : xlated.prototype(own.typeId);
}

export function jitedText(out: Output, jited: Jited, { opcodes, linum }: XlatedStyle): void {
  const ranges = linesByFunction(jited.code, jited.functions, jited.xlated.lineCount);
  for (const [index, func] of jited.functions.entries()) {
    const prototype = prototypeOf(jited, index);
    if (prototype !== "") out.text(`${escapeSource(prototype)}:\n`);
    out.text(`${escapeText(nameOf(jited, index))}:\n`);
    const view = viewOf(func.bytes);
    for (const { insn, source } of rowsOf(jited, func, ranges?.[index])) {
      out.text(sourceText(source, linum));
      out.text(`${insn.offset.toString(16).padStart(4)}:\t${insnText(insn)}\n`);
      if (opcodes) out.text(`\t${hex(view, insn.offset, insn.length).join(" ")} \n`);
    }
    out.text("\n");
  }
}

/** Formats as binutils does: an operation is padded to six columns if operands follow. */
function insnText({ operation, operands }: MachineInsn): string {
  return operands.length === 0 ? operation : `${operation.padEnd(6)} ${operands.join(",")}`;
}

/** Prints one line, or indented lines if `indent` is not "". bpftool's `operands` are pieces of text; here they are operands. */
export function jitedJson(out: Output, jited: Jited, style: XlatedStyle, indent: string): void {
  const ranges = linesByFunction(jited.code, jited.functions, jited.xlated.lineCount);
  const gap = indent === "" ? "" : `\n${indent}`;
  out.text("[");
  for (const [index, func] of jited.functions.entries()) {
    const prototype = prototypeOf(jited, index);
    let text = prototype === "" ? "{" : `{"proto":${stringify(prototype)},`;
    text += `"name":${stringify(nameOf(jited, index))},"insns":[`;
    let separator = "";
    for (const row of rowsOf(jited, func, ranges?.[index])) {
      text += separator + rowJson(func.bytes, row, style);
      separator = ",";
    }
    text += "]}";
    const pretty = indent === "" ? text : stringify(JSON.parse(text), indent).replaceAll("\n", gap);
    out.text(`${index > 0 ? "," : ""}${gap}${pretty}`);
  }
  out.text(`${indent === "" ? "" : "\n"}]`);
}

/** Like bpftool, prints a prefix ("lock") as the operation, and the prefixed operation before the first operand. */
function rowJson(bytes: Uint8Array, { insn, source }: Row, { opcodes, linum }: XlatedStyle): string {
  const { offset, length } = insn;
  const [operation = "", ...rest] = insn.operation.split(" ");
  const operands = [...rest, ...insn.operands];
  let text = `{${sourceJson(source, linum)}"pc":"0x${offset.toString(16)}","operation":${stringify(operation)}`;
  text += `,"operands":[${operands.length === 0 ? "null" : operands.map((one) => stringify(one)).join(",")}]`;
  if (!opcodes) return `${text}}`;
  const digits = Array.from(bytes.subarray(offset, offset + length), (byte) => JSON_BYTES[byte]);
  return `${text},"opcodes":[${digits.join(",")}]}`;
}
