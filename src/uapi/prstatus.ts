/** NT_PRSTATUS: `struct elf_prstatus` (linux/elfcore.h) and the registers in its `elf_gregset_t`. */
import { type Layout, layout, u32, u64 } from "./layout.ts";

/** `reg` is the first register. The number of registers depends on the architecture. */
export const ELF_PRSTATUS: Layout<"pid" | "reg"> = layout("struct elf_prstatus", 120, {
  pid: u32(32),
  reg: u64(112),
});

interface RegisterPlaces {
  /** Indexes of 64-bit registers. */
  readonly ip: number;
  readonly sp: number;
  readonly fp: number;
  /** The register with the privilege level. */
  readonly mode: number;
  isUser(mode: bigint): boolean;
  /** The register with the interrupt flag. */
  readonly flags: number;
  areInterruptsOff(flags: bigint): boolean;
}

/**
 * x86: `struct user_regs_struct` (asm/user_64.h); the two low bits of CS are the level, bit 9 of EFLAGS enables interrupts.
 * arm64: `struct user_pt_regs`; bit 7 of PSTATE masks interrupts.
 */
export const PRSTATUS_REGISTERS: { readonly [machine in "x86_64" | "aarch64"]: RegisterPlaces } = {
  x86_64: {
    fp: 4,
    ip: 16,
    mode: 17,
    flags: 18,
    sp: 19,
    isUser: (cs) => (cs & 3n) === 3n,
    areInterruptsOff: (eflags) => (eflags & 0x200n) === 0n,
  },
  aarch64: {
    fp: 29,
    sp: 31,
    ip: 32,
    mode: 33,
    flags: 33,
    isUser: (pstate) => (pstate & 0xfn) === 0n,
    areInterruptsOff: (pstate) => (pstate & 0x80n) !== 0n,
  },
};
