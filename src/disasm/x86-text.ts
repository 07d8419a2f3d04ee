/**
 * Converts Capstone's AT&T syntax to the spelling of binutils (opcodes/i386-dis.c), for the instructions that JIT compilers
 * emit: no suffix if a register gives the size, hexadecimal numbers, and displacements of 0 and scales of 1 are printed.
 */

/** An instruction as text. */
export interface InsnText {
  readonly operation: string;
  readonly operands: readonly string[];
}

/** Mnemonics that Capstone writes with a size suffix. */
const SIZED =
  /^((?:lock |rep |repne |notrack )*)(adc|add|and|bswap|bts|btr|btc|bt|call|cmov[a-z]{1,2}|cmp|cmpxchg|dec|div|idiv|imul|inc|jmp|lea|leave|mov|mul|neg|nop|not|or|pop|push|ret|rol|ror|sar|sbb|shl|shr|shlx|shrx|sarx|sub|test|xadd|xchg|xor)([bwlq])$/;
/** Instructions that always have 64-bit operands in 64-bit mode. */
const ALWAYS_LONG = new Set(["call", "jmp", "leave", "pop", "push", "ret"]);
const BITS: Readonly<Record<string, number>> = { b: 8, w: 16, l: 32, q: 64 };

/** Returns an instruction in binutils' spelling. `operands` are Capstone's; `bytes` are the instruction's bytes. */
export function x86Text(mnemonic: string, operands: readonly string[], bytes: Uint8Array): InsnText {
  // The kernel's JIT pads prologues with it (arch/x86/net/bpf_jit_comp.c, emit_prologue).
  if (bytes.length === 2 && bytes[0] === 0x66 && bytes[1] === 0x90)
    return { operation: "xchg", operands: ["%ax", "%ax"] };
  const [, prefix = "", stem = "", suffix = ""] = SIZED.exec(mnemonic) ?? [];
  const isSized = stem !== "";
  const hasDisplacement = displacementFollows(bytes);
  const spelled = operands.map((operand) => spellOperand(operand, BITS[suffix] ?? 64, hasDisplacement));
  if (mnemonic === "movabsq") return { operation: "movabs", operands: spelled };
  if (!isSized) return { operation: mnemonic, operands: spelled };
  // The shift count %cl does not give the size of the shifted operand.
  const sizeOperands = operands.filter(
    (operand, place) => place > 0 || operand !== "%cl" || operands.length === 1,
  );
  const isSizeKnown =
    ALWAYS_LONG.has(stem) || sizeOperands.some((operand) => operand.startsWith("%") && !/[:(]/.test(operand));
  return { operation: isSizeKnown ? prefix + stem : mnemonic, operands: spelled };
}

function spellOperand(operand: string, bits: number, hasDisplacement: boolean): string {
  // Capstone writes addresses below 10 in decimal.
  const address = /^(\*?(?:%\ws:)?)(\d)$/.exec(operand);
  if (address !== null) return `${address[1]}0x${address[2]}`;
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

/** Returns whether the ModRM byte is followed by a displacement (Intel SDM, volume 2, 2.1.3 and 2.3.5). */
function displacementFollows(bytes: Uint8Array): boolean {
  let at = 0;
  while (at < bytes.length && isPrefix(bytes[at]!)) at++;
  const first = bytes[at];
  if (first === 0xc4) at += 4;
  else if (first === 0xc5) at += 3;
  else if (first !== 0x0f) at += 1;
  else at += bytes[at + 1] === 0x38 || bytes[at + 1] === 0x3a ? 3 : 2;
  const modRm = bytes[at] ?? 0;
  const mode = modRm >> 6;
  const rm = modRm & 7;
  // Mode 0 has a 32-bit displacement with rm 5, and with a SIB byte (rm 4) whose base is 5.
  const isBare = mode === 0 && (rm === 5 || (rm === 4 && ((bytes[at + 1] ?? 0) & 7) === 5));
  return mode === 1 || mode === 2 || isBare;
}

/** Returns whether the byte is a legacy prefix or REX. */
function isPrefix(byte: number): boolean {
  return (
    (byte & 0xf0) === 0x40 ||
    [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65].includes(byte)
  );
}
