/**
 * Instructions as text, written as bytes: of a program of 100,000 instructions most time goes into strings that are made to be
 * copied once. What is printed of an opcode with its registers, around its offset and its immediate, is made once by the
 * disassembler itself; the numbers are written as digits.
 */
import { CALL, disassemble, type Insn, isCall, isJump, LOAD_IMM64, PSEUDO_CALL } from "../uapi/disasm.ts";
import type { Output } from "./output.ts";
import type { Xlated } from "./xlated.ts";

/** What is printed between the pieces of a form. */
const OFFSET = 0;
const IMMEDIATE = 1;
const IMMEDIATE_HEX = 2;

/** No text of the disassembler has these numbers but where it prints an offset, or an immediate. */
const SOME_OFFSET = 0x1357;
const SOME_IMMEDIATE = 0x0abc_def3;
const MARKS = [`+${SOME_OFFSET}`, String(SOME_IMMEDIATE), SOME_IMMEDIATE.toString(16)] as const;

/** Text of an opcode with its registers: `pieces[0]`, a number of kind `numbers[0]`, `pieces[1]`, ... */
interface Form {
  readonly pieces: readonly Uint8Array[];
  readonly numbers: readonly number[];
}

const FLUSH_BYTES = 32 * 1024;
/** Longer than what is written between two looks at how much there is. */
const SLACK_BYTES = 4096;
const SHORT = 256;

const ALU = 4;
const ALU64 = 7;
const BLANK = 0x20;
const MINUS = 0x2d;
const PLUS = 0x2b;
const DIGIT_0 = 0x30;
/** Of "a" over 10. */
const DIGIT_A = 0x57;

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

export class InsnBytes {
  readonly #out: Output;
  readonly #xlated: Xlated;
  readonly #bytes = new Uint8Array(new ArrayBuffer(FLUSH_BYTES + SLACK_BYTES));
  /** By opcode and registers; null: what is printed depends on more. */
  readonly #forms: (Form | null | undefined)[] = [];
  /** Texts of calls, by immediate and source register: a long program calls the same functions many times. */
  readonly #calls = new Map<number, Uint8Array>();
  #used = 0;

  constructor(out: Output, xlated: Xlated) {
    this.#out = out;
    this.#xlated = xlated;
  }

  flush(): void {
    this.#out.bytes(this.#bytes, this.#used);
    this.#used = 0;
  }

  /** Any text, in its place among the rest. */
  text(text: string): void {
    if (text.length <= SHORT && this.#short(text)) return;
    this.flush();
    this.#out.text(text);
  }

  /** False: it is not ASCII, and nothing is written. */
  #short(text: string): boolean {
    if (this.#used >= FLUSH_BYTES) this.flush();
    const bytes = this.#bytes;
    const used = this.#used;
    for (let index = 0; index < text.length; index++) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) return false;
      bytes[used + index] = unit;
    }
    this.#used = used + text.length;
    return true;
  }

  /**
   * Writes what `make` returns for a call, and keeps it for the next call of the same function. Returns false, and writes nothing,
   * for other instructions and for calls between a program's own functions, whose text has their distance.
   */
  call(index: number, make: () => string): boolean {
    const { view } = this.#xlated;
    const source = view.getUint8(8 * index + 1) >> 4;
    if (view.getUint8(8 * index) !== CALL || source === PSEUDO_CALL) return false;
    const key = 16 * view.getInt32(8 * index + 4, true) + source;
    const known = this.#calls.get(key);
    if (known !== undefined && this.#used < FLUSH_BYTES) this.piece(known);
    else {
      const text = make();
      this.text(text);
      if (text.length <= SHORT) this.#calls.set(key, new TextEncoder().encode(text));
    }
    return true;
  }

  /** At most some dozen letters. */
  piece(letters: Uint8Array): void {
    const bytes = this.#bytes;
    const used = this.#used;
    for (let index = 0; index < letters.length; index++) bytes[used + index] = letters[index]!;
    this.#used = used + letters.length;
  }

  /** `%4u` of an instruction's number. */
  number(value: number): void {
    for (let least = 1000; least > 1 && value < least; least /= 10) this.#bytes[this.#used++] = BLANK;
    this.#decimal(value);
  }

  /** Whether `insn` can write an instruction; else its text is to be had as a string. */
  isPlain(index: number): boolean {
    const { view } = this.#xlated;
    const key = view.getUint16(8 * index, true);
    let form = this.#forms[key];
    if (form === undefined) {
      form = formOf(key);
      this.#forms[key] = form;
    }
    const kind = key & 7;
    // An offset makes another operation of arithmetic.
    return form !== null && ((kind !== ALU && kind !== ALU64) || view.getInt16(8 * index + 2, true) === 0);
  }

  /** The text of an instruction for which `isPlain` holds. */
  insn(index: number): void {
    if (this.#used >= FLUSH_BYTES) this.flush();
    const { view } = this.#xlated;
    const { pieces, numbers } = this.#forms[view.getUint16(8 * index, true)]!;
    this.piece(pieces[0]!);
    for (let place = 0; place < numbers.length; place++) {
      if (numbers[place] === OFFSET) {
        const offset = view.getInt16(8 * index + 2, true);
        if (offset >= 0) this.#bytes[this.#used++] = PLUS;
        this.#signed(offset);
      } else if (numbers[place] === IMMEDIATE) this.#signed(view.getInt32(8 * index + 4, true));
      else this.#hexadecimal(view.getUint32(8 * index + 4, true));
      this.piece(pieces[place + 1]!);
    }
  }

  #signed(value: number): void {
    if (value < 0) this.#bytes[this.#used++] = MINUS;
    this.#decimal(Math.abs(value));
  }

  #decimal(value: number): void {
    const bytes = this.#bytes;
    let digits = 1;
    for (let least = 10; least <= value; least *= 10) digits++;
    let at = this.#used + digits;
    this.#used = at;
    for (let rest = value; digits > 0; digits--) {
      const tenth = Math.floor(rest / 10);
      bytes[--at] = DIGIT_0 + rest - 10 * tenth;
      rest = tenth;
    }
  }

  #hexadecimal(value: number): void {
    const bytes = this.#bytes;
    let digits = 1;
    for (let rest = value >>> 4; rest > 0; rest >>>= 4) digits++;
    let at = this.#used + digits;
    this.#used = at;
    for (let rest = value; digits > 0; digits--, rest >>>= 4) {
      const digit = rest & 15;
      bytes[--at] = digit + (digit < 10 ? DIGIT_0 : DIGIT_A);
    }
  }
}

/** BPF_STX with BPF_ATOMIC, of any size. */
const ATOMIC_MASK = 0xe7;
const ATOMIC = 0xc3;
/** BPF_JMP32 | BPF_JA: its immediate has a sign. */
const GOTOL = 0x06;

function formOf(key: number): Form | null {
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
  const pieces: Uint8Array[] = [];
  const numbers: number[] = [];
  for (;;) {
    const places = MARKS.map((mark) => rest.indexOf(mark)).map((at) => (at < 0 ? rest.length : at));
    const at = Math.min(...places);
    pieces.push(ascii(rest.slice(0, at)));
    if (at === rest.length) return { pieces, numbers };
    const kind = [OFFSET, IMMEDIATE, IMMEDIATE_HEX].find((one) => places[one] === at)!;
    numbers.push(kind);
    rest = rest.slice(at + MARKS[kind]!.length);
  }
}
