/**
 * Disassembles BPF instructions in the format of the kernel's disassembler (kernel/bpf/disasm.c, `print_bpf_insn`, 7.2),
 * which bpftool uses. Unknown classes and modes are printed as the kernel prints them.
 */
import { HELPERS } from "./helpers.ts";

/** `struct bpf_insn`: 8 bytes. An instruction with a 64-bit immediate takes two of them. */
export interface Insn {
  /** Index of the instruction in the program. */
  readonly index: number;
  readonly code: number;
  readonly destination: number;
  readonly source: number;
  /** s16. */
  readonly offset: number;
  /** s32. */
  readonly immediate: number;
  /** The immediate of the following instruction, s32; 0 for the last instruction. */
  readonly next: number;
}

/** Names of the objects that instructions refer to. */
export interface Operands {
  /** Returns the target of a call other than a call of a helper by number. */
  readonly call: (insn: Insn) => string;
}

const INSN_SHIFT = 3;

/** Reads instruction `index`. The caller checks the bounds. */
export function insnAt(insns: DataView, index: number): Insn {
  const at = index << INSN_SHIFT;
  const registers = insns.getUint8(at + 1);
  return {
    index,
    code: insns.getUint8(at),
    destination: registers & 15,
    source: registers >> 4,
    offset: insns.getInt16(at + 2, true),
    immediate: insns.getInt32(at + 4, true),
    next: at + 16 <= insns.byteLength ? insns.getInt32(at + 12, true) : 0,
  };
}

/** BPF_LD | BPF_IMM | BPF_DW: the following instruction holds the upper half of the immediate. */
export const LOAD_IMM64 = 0x18;
/** BPF_JMP | BPF_CALL. */
export const CALL = 0x85;

/** Internal opcodes of the kernel (include/linux/filter.h): a tail call, and a call in the interpreter. */
export const TAIL_CALL = 0xf5;
export const CALL_ARGS = 0xe5;
/** `BPF_FUNC_tail_call`. */
export const TAIL_CALL_HELPER = 12;

/** `insn->src_reg` of a call. */
export const PSEUDO_CALL = 1;

/** BPF_CLASS. */
const LD = 0;
const LDX = 1;
const ST = 2;
const STX = 3;
const ALU = 4;
const JMP = 5;
const JMP32 = 6;
export const classOf = (code: number): number => code & 7;
const modeOf = (code: number): number => code & 0xe0;
const operationOf = (code: number): number => code & 0xf0;
/** BPF_SRC: the second operand is a register. */
const isRegister = (code: number): boolean => (code & 8) !== 0;
export const isJump = (code: number): boolean => classOf(code) === JMP || classOf(code) === JMP32;

/** BPF_MODE. */
const ABS = 0x20;
const IND = 0x40;
const MEM = 0x60;
const MEMSX = 0x80;
const ATOMIC = 0xc0;
/** A mode of BPF_ST that is internal to the kernel. */
const NOSPEC = 0xc0;

/** BPF_OP of arithmetic. */
const DIV = 0x30;
const NEG = 0x80;
const MOD = 0x90;
const MOV = 0xb0;
const END = 0xd0;
/** BPF_OP of jumps. */
const JA = 0x00;
const OP_CALL = 0x80;
const OP_EXIT = 0x90;
const JCOND = 0xe0;

export const isCall = (code: number): boolean => operationOf(code) === OP_CALL;
export const isExit = (code: number): boolean => operationOf(code) === OP_EXIT;
export const isGoto = (code: number): boolean => operationOf(code) === JA;

const ALU_WORDS = [
  "+=",
  "-=",
  "*=",
  "/=",
  "|=",
  "&=",
  "<<=",
  ">>=",
  "neg",
  "%=",
  "^=",
  "=",
  "s>>=",
  "endian",
];
const JUMP_WORDS = ["jmp", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<="];
/** Indexed by BPF_SIZE. */
const SIZES = ["u32", "u16", "u8", "u64"];
const SIGNED_SIZES = ["s32", "s16", "s8"];
/** Indexed by `(offset >> 3) - 1`. */
const MOVSX = ["(s8)", "(s16)", undefined, "(s32)"];

/** Internal modes: loads that can fault, and accesses to an arena (include/linux/filter.h). */
const PROBE_MEM = 0x20;
const PROBE_MEM32 = 0xa0;

/** Returns the original opcode of a load or store that the verifier marked as one that can fault; other opcodes as they are. */
export function plainAccess(code: number): number {
  const kind = classOf(code);
  const mode = modeOf(code);
  const isMarked =
    (kind === LDX && mode === PROBE_MEM) || (kind >= LDX && kind <= STX && mode === PROBE_MEM32);
  return isMarked ? (code & ~0xe0) | MEM : code;
}

/** printf's output for NULL. */
const NONE = "(null)";

const sizeOf = (code: number): string => SIZES[(code >> 3) & 3]!;
const signed = (value: number): string => (value < 0 ? String(value) : `+${value}`);
const CODES: readonly string[] = Array.from(
  { length: 256 },
  (_, code) => `(${code.toString(16).padStart(2, "0")}) `,
);
const bug = (prefix: string, code: number): string => `BUG_${prefix}${code.toString(16).padStart(2, "0")}`;

/** Returns the text of one instruction, without a line feed. */
export function disassemble(insn: Insn, operands: Operands): string {
  const { code } = insn;
  switch (classOf(code)) {
    case LD:
      return load(insn);
    case LDX:
      return loadMemory(insn);
    case ST:
      return storeImmediate(insn);
    case STX:
      return storeRegister(insn);
    case JMP:
    case JMP32:
      return jump(insn, operands);
    default:
      return arithmetic(insn);
  }
}

function arithmetic({ code, destination, source, offset, immediate }: Insn): string {
  const isWide = classOf(code) !== ALU;
  const operation = operationOf(code);
  const register = isWide ? "r" : "w";
  const head = CODES[code]!;
  if (operation === END) {
    const swap = isWide ? "bswap" : isRegister(code) ? "be" : "le";
    return `${head}r${destination} = ${swap}${immediate} r${destination}`;
  }
  if (operation === NEG) return `${head}${register}${destination} = -${register}${destination}`;
  if (isWide && operation === MOV && isRegister(code)) {
    if (offset === 1)
      return `${head}r${destination} = addr_space_cast(r${source}, ${immediate >>> 16}, ${immediate & 0xffff})`;
    if (offset === -1) return `${head}r${destination} = &(void __percpu *)(r${source})`;
  }
  const isSigned = (operation === DIV || operation === MOD) && offset === 1;
  const word = `${isSigned ? "s" : ""}${ALU_WORDS[operation >> 4] ?? NONE}`;
  if (!isRegister(code)) return `${head}${register}${destination} ${word} ${immediate}`;
  const extends_ = operation === MOV && (offset === 8 || offset === 16 || offset === 32);
  const extension = extends_ ? MOVSX[(offset >> 3) - 1] : "";
  return `${head}${register}${destination} ${word} ${extension}${register}${source}`;
}

/** The immediate of an atomic operation (include/uapi/linux/bpf.h). */
const FETCH = 1;
const XCHG = 0xe1;
const CMPXCHG = 0xf1;
const LOAD_ACQ = 0x100;
const STORE_REL = 0x110;
const ATOMIC_WORDS: Readonly<Record<number, string>> = { 0: "add", 64: "or", 80: "and", 160: "xor" };

function storeRegister(insn: Insn): string {
  const { code, destination, source, offset, immediate } = insn;
  const head = CODES[code]!;
  const place = `*(${sizeOf(code)} *)(r${destination} ${signed(offset)})`;
  if (modeOf(code) === MEM) return `${head}${place} = r${source}`;
  if (modeOf(code) !== ATOMIC) return bug("", code);
  const pointed = `(${sizeOf(code)} *)(r${destination} ${signed(offset)})`;
  const width = sizeOf(code) === "u64" ? "64" : "";
  switch (immediate) {
    case CMPXCHG:
      return `${head}r0 = atomic${width}_cmpxchg(${pointed}, r0, r${source})`;
    case XCHG:
      return `${head}r${source} = atomic${width}_xchg(${pointed}, r${source})`;
    case LOAD_ACQ:
      return `${head}r${destination} = load_acquire((${sizeOf(code)} *)(r${source} ${signed(offset)}))`;
    case STORE_REL:
      return `${head}store_release(${pointed}, r${source})`;
  }
  const word = ATOMIC_WORDS[immediate & ~FETCH];
  if (word === undefined) return bug("", code);
  if ((immediate & FETCH) === 0)
    return `${head}lock ${place} ${ALU_WORDS[operationOf(immediate) >> 4]} r${source}`;
  return `${head}r${source} = atomic${width}_fetch_${word}(${pointed}, r${source})`;
}

function storeImmediate({ code, destination, offset, immediate }: Insn): string {
  const head = CODES[code]!;
  if (modeOf(code) === MEM)
    return `${head}*(${sizeOf(code)} *)(r${destination} ${signed(offset)}) = ${immediate}`;
  return modeOf(code) === NOSPEC ? `${head}nospec` : bug("st_", code);
}

function loadMemory({ code, destination, source, offset }: Insn): string {
  const mode = modeOf(code);
  if (mode !== MEM && mode !== MEMSX) return bug("ldx_", code);
  const size = mode === MEM ? sizeOf(code) : (SIGNED_SIZES[(code >> 3) & 3] ?? NONE);
  return `${CODES[code]}r${destination} = *(${size} *)(r${source} ${signed(offset)})`;
}

function load(insn: Insn): string {
  const { code, destination, source, immediate } = insn;
  const head = CODES[code]!;
  if (code === LOAD_IMM64) return `${head}r${destination} = ${wide(insn)}`;
  if (modeOf(code) === ABS) return `${head}r0 = *(${sizeOf(code)} *)skb[${immediate}]`;
  if (modeOf(code) === IND) return `${head}r0 = *(${sizeOf(code)} *)skb[r${source} + ${immediate}]`;
  return bug("ld_", code);
}

/** `insn->src_reg` of a 64-bit immediate. */
export const PSEUDO_MAP_FD = 1;
export const PSEUDO_MAP_VALUE = 2;
const PSEUDO_FUNC = 4;
const PSEUDO_MAP_IDX_VALUE = 6;

/** Returns the text of a 64-bit immediate (tools/bpf/bpftool/xlated_dumper.c, `print_imm`). */
function wide({ source, immediate, next }: Insn): string {
  switch (source) {
    case PSEUDO_MAP_FD:
      return `map[id:${immediate}]`;
    case PSEUDO_MAP_VALUE:
      return `map[id:${immediate}][0]+${next}`;
    case PSEUDO_MAP_IDX_VALUE:
      return `map[idx:${immediate}]+${next}`;
    case PSEUDO_FUNC:
      return `subprog[${signed(immediate)}]`;
  }
  const low = (immediate >>> 0).toString(16);
  return next === 0 ? `0x${low}` : `0x${(next >>> 0).toString(16)}${low.padStart(8, "0")}`;
}

/** Returns the helper that an instruction calls by number, or undefined. */
export function helperOf({ source, immediate }: Insn): string | undefined {
  const name = source === 0 ? HELPERS[immediate] : undefined;
  return name === undefined ? undefined : `bpf_${name}`;
}

function jump(insn: Insn, { call }: Operands): string {
  const { code, destination, source, offset, immediate } = insn;
  const head = CODES[code]!;
  const operation = operationOf(code);
  if (operation === OP_CALL) {
    if (source === PSEUDO_CALL) return `${head}call pc${call(insn)}`;
    return `${head}call ${helperOf(insn) ?? call(insn)}#${immediate}`;
  }
  switch (code) {
    case JMP | JA:
      return `${head}goto pc${signed(offset)}`;
    case JMP | JA | 8:
      return `${head}gotox r${destination}`;
    case JMP32 | JA:
      return `${head}gotol pc${signed(immediate)}`;
    case JMP | OP_EXIT:
      return `${head}exit`;
  }
  if (code === (JMP | JCOND) && source === 0) return `${head}may_goto pc${signed(offset)}`;
  const register = classOf(code) === JMP32 ? "w" : "r";
  const other = isRegister(code) ? `${register}${source}` : `0x${(immediate >>> 0).toString(16)}`;
  return `${head}if ${register}${destination} ${JUMP_WORDS[operation >> 4] ?? NONE} ${other} goto pc${signed(offset)}`;
}
