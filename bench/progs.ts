/** Loads a long program through ktstr's bpf(2) layer. It exists until its descriptor is closed. */
import { addressOf, bpf, Fd } from "../src/ffi.ts";
import { objectInfo } from "../src/live/objects.ts";
import { realSys } from "../src/live/sys.ts";
import { COMMANDS, PROG_INFO } from "../src/uapi/bpf.ts";
import { errnoName } from "../src/uapi/errno.ts";
import { exit, INSN_BYTES, insn, type Register, set } from "../src/uapi/insn.ts";
import { ProgType } from "../src/uapi/names.ts";

const SLOTS = 16;
/** add, or, and, lsh, rsh, xor, mov with an immediate, and add, or, and, xor, mov with a register. */
const WITH_IMMEDIATE = [0x07, 0x47, 0x57, 0x67, 0x77, 0xa7, 0xb7] as const;
const WITH_REGISTER = [0x0f, 0x4f, 0x5f, 0xaf, 0xbf] as const;
/** jeq, jgt, jne, jsgt with an immediate. */
const JUMPS = [0x15, 0x25, 0x55, 0x65] as const;

/** r6 to r9, which calls preserve. */
const someRegister = (below: (end: number) => number): Register => (6 + below(4)) as Register;

/** Returns one of the instructions that compilers emit most often. `below(n)` returns a number from 0 to n - 1. */
function someInsn(below: (end: number) => number): Uint8Array {
  const register = someRegister(below);
  const slot = -8 * (1 + below(SLOTS));
  switch (below(8)) {
    case 0:
    case 1:
      return insn(WITH_IMMEDIATE[below(WITH_IMMEDIATE.length)]!, register, 0, 0, below(32));
    case 2:
      return insn(0xb7, register, 0, 0, below(2 ** 31));
    case 3:
      return insn(WITH_REGISTER[below(WITH_REGISTER.length)]!, register, someRegister(below), 0, 0);
    case 4:
      return insn(0x79, register, 10, slot, 0);
    case 5:
      return insn(0x7b, 10, register, slot, 0);
    case 6:
      return insn(JUMPS[below(JUMPS.length)]!, register, 0, 0, below(1000));
    default:
      // BPF_FUNC_get_prandom_u32.
      return insn(0x85, 0, 0, 0, 7);
  }
}

/** Returns a pseudorandom generator (xorshift32) that always returns the same numbers. */
function random(): (end: number) => number {
  let state = 20_261_128;
  return (end) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % end;
  };
}

export interface BenchProg {
  readonly fd: Fd;
  readonly id: number;
}

/** Loads a socket filter of `count` + 2 instructions. */
export function loadLongProg(count: number): BenchProg {
  const pieces = [set(6, 1), set(7, 2), set(8, 3), set(9, 4)];
  for (let slot = 1; slot <= SLOTS; slot++) pieces.push(insn(0x7a, 10, 0, -8 * slot, slot));
  const below = random();
  while (pieces.length < count) pieces.push(someInsn(below));
  pieces.push(set(0, 0), exit());
  const insns = new Uint8Array(new ArrayBuffer(pieces.length * INSN_BYTES));
  for (const [index, piece] of pieces.entries()) insns.set(piece, index * INSN_BYTES);
  const license = new Uint8Array(new ArrayBuffer(8));
  license.set(Buffer.from("GPL"));
  // The member of `union bpf_attr` for BPF_PROG_LOAD: prog_type, insn_cnt, insns, license.
  const attr = new Uint8Array(new ArrayBuffer(128));
  const view = new DataView(attr.buffer);
  view.setUint32(0, ProgType.socket_filter, true);
  view.setUint32(4, pieces.length, true);
  view.setBigUint64(8, BigInt(addressOf(insns)), true);
  view.setBigUint64(16, BigInt(addressOf(license)), true);
  const fd = bpf(COMMANDS.BPF_PROG_LOAD, attr);
  if (fd < 0) throw new Error(`BPF_PROG_LOAD of ${pieces.length} instructions: ${errnoName(-fd)}`);
  const owned = new Fd(fd, "bench program");
  const id = objectInfo(realSys, owned, PROG_INFO, "bench program").getUint32(4, true);
  return { fd: owned, id };
}
