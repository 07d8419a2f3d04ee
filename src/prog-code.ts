/** Types that both data paths return for a program's code, with the data of `bpf_prog_get_info_by_fd` (kernel/bpf/syscall.c). */
import { CALL, helperOf, insnAt, PSEUDO_CALL } from "./uapi/disasm.ts";

export interface ProgCode {
  /**
   * `struct bpf_insn`, 8 bytes each, after verification, with ids for maps. Empty if the kernel does not permit reading it.
   */
  readonly insns: Uint8Array;
  /** `struct bpf_func_info`, by ascending instruction. */
  readonly functions: readonly FunctionInfo[];
  /** `struct bpf_line_info`, four words each (`LINE_WORDS`), by ascending instruction. */
  readonly lines: Uint32Array;
  /** Address of each line's machine code (`jited_linfo`), in the order of `lines`; empty if unknown. */
  readonly lineAddresses: readonly bigint[];
  /** Address of each function's machine code (`jited_ksyms`); empty if unknown. */
  readonly functionAddresses: readonly bigint[];
  /** Number of functions, known even if their addresses are not. */
  readonly functionCount: number;
}

/** A function: the index of its first instruction, and its type id, a FUNC in the program's BTF. */
export interface FunctionInfo {
  readonly insn: number;
  readonly typeId: number;
}

/** The machine code of a function, from the kernel's JIT compiler. */
export interface MachineFunction {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** A machine instruction as text. */
export interface MachineInsn {
  /** Offset from the start of the function. Offset and length are in bytes. */
  readonly offset: number;
  readonly length: number;
  /** "mov", "lock add". */
  readonly operation: string;
  readonly operands: readonly string[];
}

export interface Disassembler {
  /**
   * Decodes all bytes in order, including bytes that are not an instruction. `address` is their address in the guest or
   * kernel.
   */
  decode(bytes: Uint8Array, address: bigint): Iterable<MachineInsn>;
}

/** `struct bpf_line_info`: number of words, and the index of each word. */
export const LINE_WORDS = 4;
export const LINE_INSN = 0;
export const LINE_FILE = 1;
export const LINE_TEXT = 2;
export const LINE_PLACE = 3;

/** Targets of calls. Each symbol starts at its address. */
export interface CallTargets {
  /** `__bpf_call_base`. Calls of helpers and kfuncs are encoded relative to it. 0 if the kernel hides addresses. */
  readonly base: bigint;
  readonly names: ReadonlyMap<bigint, string>;
}

export const NO_TARGETS: CallTargets = { base: 0n, names: new Map() };

/** Returns the target address of a call (tools/bpf/bpftool/xlated_dumper.c, `print_call`). */
export function callAddress(
  source: number,
  immediate: number,
  base: bigint,
  { functionAddresses }: Pick<ProgCode, "functionAddresses">,
): bigint {
  const own = source === PSEUDO_CALL ? functionAddresses[immediate >>> 0] : undefined;
  return own ?? BigInt.asUintN(64, base + BigInt(immediate));
}

/** Returns the addresses of all calls that need a symbol. */
export function calledAddresses(code: ProgCode, base: bigint): bigint[] {
  const { insns } = code;
  const view = new DataView(insns.buffer, insns.byteOffset, insns.byteLength);
  // A long program calls the same functions many times. The key of a call is 16 times its immediate, plus its source register.
  const called = new Set<number>();
  const helpers = new Set<number>();
  for (let at = 0; at + 8 <= insns.length; at += 8) {
    if (insns[at] !== CALL) continue;
    const key = 16 * view.getInt32(at + 4, true) + (insns[at + 1]! >> 4);
    if (called.has(key) || helpers.has(key)) continue;
    (helperOf(insnAt(view, at >>> 3)) === undefined ? called : helpers).add(key);
  }
  const addresses = new Set<bigint>();
  for (const key of called) addresses.add(callAddress(key & 15, Math.floor(key / 16), base, code));
  return [...addresses];
}
