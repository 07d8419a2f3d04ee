/**
 * Text of a long program's instructions. The disassembler prints each combination of opcode and registers once; the result is
 * kept as a form into which offset and immediate are inserted. Texts of calls are cached, too.
 */
import { CALL, disassemble, type Insn, isCall, isJump, LOAD_IMM64, PSEUDO_CALL } from "../uapi/disasm.ts";
import type { Xlated } from "./xlated.ts";

/** Kinds of number between the pieces of a form. */
const OFFSET = 0;
const IMMEDIATE = 1;
const IMMEDIATE_HEX = 2;

/** Values that the disassembler's text contains only where it prints an offset or an immediate. */
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
  /** Indexed by opcode and registers; null: the text depends on more than offset and immediate. */
  readonly #forms: (Form | null | undefined)[] = [];
  /** Texts of calls, by immediate and source register, because a long program calls the same functions many times. */
  readonly #calls = new Map<number, string>();

  /**
   * `print` returns the text of an instruction that has no form. `before` and `after` are added around the disassembler's
   * text in every form.
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
    // A nonzero offset selects another arithmetic operation, such as signed division.
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

  /** Calls between a program's own functions are not cached, because their text contains the distance. */
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
/** BPF_JMP32 | BPF_JA, whose immediate is printed with a sign. */
const GOTOL = 0x06;

function formOf(key: number, before: string, after: string): Form | null {
  const code = key & 0xff;
  // Their immediates are printed as names, printed with a sign, or select operations.
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
