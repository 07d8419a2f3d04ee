/** The registers in QEMU's monitor output. They are compared with a dump's in test/lab/registers.lab.test.ts. */
import { expect, test } from "bun:test";
import { parseRegisters } from "../../src/guest/vm/registers.ts";
import { ELF_PRSTATUS } from "../../src/uapi/prstatus.ts";

const X86 = `
CPU#0
RAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004
RSI=0000000000000005 RDI=0000000000000006 RBP=ffffc90000013e10 RSP=ffffc90000013df8
RIP=ffffffff81e6b5fb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
ES =0000 0000000000000000 ffffffff 00c09300
CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]
CPU#1
RIP=00007f0000001000 RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0
CS =0033 0000000000000000 ffffffff 00affb00 DPL=3 CS64 [-RA]
`;
const ARM64 = `
CPU#0
 PC=ffff800080010000 X00=0000000000000001 X01=0000000000000002
X28=0000000000000000 X29=ffff800080003f00 X30=ffff800080020000  SP=ffff800080003ef0
PSTATE=600000c5 -ZC- EL1h     FPU disabled
`;

const word = (note: Uint8Array, index: number): bigint =>
  new DataView(note.buffer).getBigUint64(ELF_PRSTATUS.fields.reg.offset + 8 * index, true);

test("x86: RBP, RIP, CS, EFLAGS and RSP are registers 4, 16, 17, 18 and 19; a CPU without one of them is left out", () => {
  const notes = parseRegisters(X86);
  expect(notes).toHaveLength(1);
  expect([4, 16, 17, 18, 19].map((index) => word(notes[0]!, index))).toEqual([
    0xffffc90000013e10n,
    0xffffffff81e6b5fbn,
    0x10n,
    0x246n,
    0xffffc90000013df8n,
  ]);
  expect(new DataView(notes[0]!.buffer).getUint32(ELF_PRSTATUS.fields.pid.offset, true)).toBe(1);
});

test("arm64: X29, SP, PC and PSTATE are registers 29, 31, 32 and 33", () => {
  const [note] = parseRegisters(ARM64);
  expect([29, 31, 32, 33].map((index) => word(note!, index))).toEqual([
    0xffff800080003f00n,
    0xffff800080003ef0n,
    0xffff800080010000n,
    0x600000c5n,
  ]);
});

test("other text has no CPUs", () => {
  for (const text of ["", "CPU#", "CPU#x\nRIP=1", "CPU#0\n".repeat(10_000), X86.slice(0, 200)])
    expect(parseRegisters(text)).toEqual([]);
});
