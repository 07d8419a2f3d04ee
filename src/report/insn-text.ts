/**
 * Text of a long program's instructions. What is printed of an opcode with its registers, around its offset and its immediate,
 * is made once by the disassembler itself. Texts of calls are kept, too.
 */
import { CALL, disassemble, type Insn, isCall, isJump, LOAD_IMM64, PSEUDO_CALL } from "../uapi/disasm.ts";
import type { Xlated } from "./xlated.ts";

/** What is printed between the pieces of a form. */
const OFFSET = 0;
const IMMEDIATE = 1;
const IMMEDIATE_HEX = 2;

/** No text of the disassembler has these numbers except where it prints an offset, or an immediate. */
const SOME_OFFSET = 0x1357;
const SOME_IMMEDIATE = 0x0abc_def3;
const MARKS = [`+${SOME_OFFSET}`, String(SOME_IMMEDIATE), SOME_IMMEDIATE.toString(16)] as const;

/** Text of an opcode with its registers: `pieces[0]`, a number of kind `numbers[0]`, `pieces[1]`, ... */
interface Form {
  readonly pieces: readonly string[];
  readonly numbers: readonly number[];
}

const ALU = 4;
const ALU64 = 7;

export class InsnText {
  readonly #view: DataView;
  readonly #before: string;
  readonly #after: string;
  readonly #print: (index: number) => string;
  /** By opcode and registers; null: what is printed depends on more. */
  readonly #forms: (Form | null | undefined)[] = [];
  /** Texts of calls, by immediate and source register: a long program calls the same functions many times. */
  readonly #calls = new Map<number, string>();

  /**
   * `print` returns the whole text of an instruction that has no form. The disassembler's text stands between `before` and
   * `after` where it has one.
   */
  constructor(xlated: Xlated, before: string, after: string, print: (index: number) => string) {
    this.#view = xlated.view;
    this.#before = before;
    this.#after = after;
    this.#print = print;
  }

  at(index: number): string {
    const view = this.#view;
    const key = view.getUint16(8 * index, true);
    let form = this.#forms[key];
    if (form === undefined) {
      form = formOf(key, this.#before, this.#after);
      this.#forms[key] = form;
    }
    if (form === null) return this.#call(index, key);
    const offset = view.getInt16(8 * index + 2, true);
    const kind = key & 7;
    // An offset makes another operation of arithmetic.
    if (offset !== 0 && (kind === ALU || kind === ALU64)) return this.#print(index);
    const { pieces, numbers } = form;
    let text = pieces[0]!;
    for (let place = 0; place < numbers.length; ) {
      const number = numbers[place]!;
      if (number === OFFSET) text += offset < 0 ? offset : `+${offset}`;
      else if (number === IMMEDIATE) text += view.getInt32(8 * index + 4, true);
      else text += view.getUint32(8 * index + 4, true).toString(16);
      text += pieces[++place]!;
    }
    return text;
  }

  /** Of a call between a program's own functions, the text has their distance: it is not kept. */
  #call(index: number, key: number): string {
    const source = key >> 12;
    if ((key & 0xff) !== CALL || source === PSEUDO_CALL) return this.#print(index);
    const target = 16 * this.#view.getInt32(8 * index + 4, true) + source;
    let text = this.#calls.get(target);
    if (text === undefined) {
      text = this.#print(index);
      this.#calls.set(target, text);
    }
    return text;
  }
}

/** BPF_STX with BPF_ATOMIC, of any size. */
const ATOMIC_MASK = 0xe7;
const ATOMIC = 0xc3;
/** BPF_JMP32 | BPF_JA: its immediate has a sign. */
const GOTOL = 0x06;

function formOf(key: number, before: string, after: string): Form | null {
  const code = key & 0xff;
  // Their immediates are names or operations.
  if (code === LOAD_IMM64 || code === GOTOL || (code & ATOMIC_MASK) === ATOMIC) return null;
  if (isJump(code) && isCall(code)) return null;
  const insn: Insn = {
    index: 0,
    code,
    destination: (key >> 8) & 15,
    source: key >> 12,
    offset: SOME_OFFSET,
    immediate: SOME_IMMEDIATE,
    next: 0,
  };
  let rest = disassemble(insn, { call: () => "" });
  const pieces: string[] = [];
  const numbers: number[] = [];
  for (;;) {
    const places = MARKS.map((mark) => rest.indexOf(mark)).map((at) => (at < 0 ? rest.length : at));
    const at = Math.min(...places);
    pieces.push((pieces.length === 0 ? before : "") + rest.slice(0, at) + (at === rest.length ? after : ""));
    if (at === rest.length) return { pieces, numbers };
    const kind = [OFFSET, IMMEDIATE, IMMEDIATE_HEX].find((one) => places[one] === at)!;
    numbers.push(kind);
    rest = rest.slice(at + MARKS[kind]!.length);
  }
}
