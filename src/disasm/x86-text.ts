/**
 * Capstone's AT&T syntax in binutils' spelling (opcodes/i386-dis.c), as far as JIT compilers' instructions need it: no suffix for a
 * size that a register tells, numbers in hexadecimal, a displacement also where it is 0, a scale also where it is 1.
 */

/** What of an instruction is text. */
export interface InsnText {
  readonly operation: string;
  readonly operands: readonly string[];
}

/** Mnemonics that Capstone writes with the suffix of their size. */
const SIZED =
  /^((?:lock |rep |repne |notrack )*)(adc|add|and|bswap|bts|btr|btc|bt|call|cmov[a-z]{1,2}|cmp|cmpxchg|dec|div|idiv|imul|inc|jmp|lea|leave|mov|mul|neg|nop|not|or|pop|push|ret|rol|ror|sar|sbb|shl|shr|shlx|shrx|sarx|sub|test|xadd|xchg|xor)([bwlq])$/;
/** Of 64 bits in any case, in 64-bit mode. */
const ALWAYS_LONG = new Set(["call", "jmp", "leave", "pop", "push", "ret"]);
const BITS: Readonly<Record<string, number>> = { b: 8, w: 16, l: 32, q: 64 };

/** `operands`: as Capstone separates them; `bytes`: the instruction's. */
export function x86Text(mnemonic: string, operands: readonly string[], bytes: Uint8Array): InsnText {
  const [, prefix = "", stem = "", suffix = ""] = SIZED.exec(mnemonic) ?? [];
  const isSized = stem !== "";
  const hasDisplacement = displaces(bytes);
  const spelled = operands.map((operand) => spell(operand, BITS[suffix] ?? 64, hasDisplacement));
  if (mnemonic === "movabsq") return { operation: "movabs", operands: spelled };
  if (!isSized) return { operation: mnemonic, operands: spelled };
  // The count of a shift says nothing of the size of what is shifted.
  const telling = operands.filter(
    (operand, place) => place > 0 || operand !== "%cl" || operands.length === 1,
  );
  const isTold =
    ALWAYS_LONG.has(stem) || telling.some((operand) => operand.startsWith("%") && !/[:(]/.test(operand));
  return { operation: isTold ? prefix + stem : mnemonic, operands: spelled };
}

function spell(operand: string, bits: number, hasDisplacement: boolean): string {
  if (operand.startsWith("$")) return `$0x${BigInt.asUintN(bits, numberIn(operand.slice(1))).toString(16)}`;
  const memory = /^(\*?(?:%\ws:)?)(-?(?:0x)?[0-9a-f]*)\(([^)]*)\)$/.exec(operand);
  if (memory === null) return operand;
  const [, before = "", displacement = "", inner = ""] = memory;
  const parts = inner.split(", ");
  if (parts.length === 2) parts.push("1");
  const value = displacement === "" ? undefined : numberIn(displacement);
  const number = value === undefined ? (hasDisplacement ? "0x0" : "") : signed(value);
  return `${before}${number}(${parts.join(",")})`;
}

function signed(value: bigint): string {
  return value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`;
}

function numberIn(text: string): bigint {
  return text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text);
}

/** Whether the ModRM byte says that a displacement follows (Intel SDM, volume 2, 2.1.3 and 2.3.5). */
function displaces(bytes: Uint8Array): boolean {
  let at = 0;
  while (at < bytes.length && isPrefix(bytes[at]!)) at++;
  const first = bytes[at];
  if (first === 0xc4) at += 4;
  else if (first === 0xc5) at += 3;
  else if (first !== 0x0f) at += 1;
  else at += bytes[at + 1] === 0x38 || bytes[at + 1] === 0x3a ? 3 : 2;
  const mode = (bytes[at] ?? 0) >> 6;
  return mode === 1 || mode === 2;
}

/** Legacy prefixes and REX. */
function isPrefix(byte: number): boolean {
  return (
    (byte & 0xf0) === 0x40 ||
    [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65].includes(byte)
  );
}
