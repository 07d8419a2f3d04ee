/** Encodes BPF instructions for the programs that ktstr loads: `struct bpf_insn`, 8 bytes, or 16 with a 64-bit immediate. */

/** Registers r0 to r10. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** Returns one instruction, 8 bytes. `offset` is an s16, `immediate` an s32. */
export function insn(
  code: number,
  destination: Register,
  source: number,
  offset: number,
  immediate: number,
): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, code);
  view.setUint8(1, destination | (source << 4));
  view.setInt16(2, offset, true);
  view.setInt32(4, immediate, true);
  return bytes;
}

/** BPF_ALU64 | BPF_MOV | BPF_X. */
export const move = (to: Register, from: Register): Uint8Array => insn(0xbf, to, from, 0, 0);
/** BPF_ALU64 | BPF_MOV | BPF_K. */
export const set = (to: Register, immediate: number): Uint8Array => insn(0xb7, to, 0, 0, immediate);
/** BPF_ALU64 | BPF_ADD | BPF_K. */
export const addConst = (to: Register, immediate: number): Uint8Array => insn(0x07, to, 0, 0, immediate);
/** BPF_LDX | BPF_MEM | BPF_DW: `to = *(u64 *)(from + offset)`. */
export const load64 = (to: Register, from: Register, offset: number): Uint8Array =>
  insn(0x79, to, from, offset, 0);
/** BPF_STX | BPF_MEM | BPF_DW: `*(u64 *)(to + offset) = from`. */
export const store64 = (to: Register, from: Register, offset: number): Uint8Array =>
  insn(0x7b, to, from, offset, 0);
/** BPF_JMP | BPF_JLE | BPF_K: skips `count` instruction slots if `register <= immediate`, unsigned. */
export const skipIfAtMost = (register: Register, immediate: number, count: number): Uint8Array =>
  insn(0xb5, register, 0, count, immediate);
/** BPF_JMP | BPF_JGT | BPF_K. */
export const skipIfAbove = (register: Register, immediate: number, count: number): Uint8Array =>
  insn(0x25, register, 0, count, immediate);
/** BPF_JMP | BPF_CALL. */
export const call = (helper: number): Uint8Array => insn(0x85, 0, 0, 0, helper);
/** BPF_JMP | BPF_EXIT. */
export const exit = (): Uint8Array => insn(0x95, 0, 0, 0, 0);

const PSEUDO_MAP_FD = 1;
const PSEUDO_MAP_VALUE = 2;

function wide(to: Register, source: number, low: number, high: number): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(insn(0x18, to, source, 0, low));
  bytes.set(insn(0, 0, 0, 0, high), 8);
  return bytes;
}

/** Loads the address of `struct bpf_map` by a file descriptor. Takes two slots. */
export const loadMap = (to: Register, fd: number): Uint8Array => wide(to, PSEUDO_MAP_FD, fd, 0);
/** Loads the address of a byte in the value of a one-element array. Takes two slots. */
export const loadMapValue = (to: Register, fd: number, offset: number): Uint8Array =>
  wide(to, PSEUDO_MAP_VALUE, fd, offset);

/** `BPF_FUNC_probe_read_kernel`. */
export const PROBE_READ_KERNEL = 113;
/** `BPF_F_SLEEPABLE`: required to load a BPF_PROG_TYPE_SYSCALL program. */
export const BPF_F_SLEEPABLE = 0x10;
export const INSN_BYTES = 8;
