/** Registers in NT_PRSTATUS notes. */
import { expect, test } from "bun:test";
import type { GuestKernel } from "../../src/guest/kernel/kernel.ts";
import type { PerCpuArea } from "../../src/guest/kernel/percpu.ts";
import type { TaskAt } from "../../src/guest/kernel/tasks.ts";
import { registersOf } from "../../src/guest/task/registers.ts";

/** `struct elf_prstatus` on x86: pr_pid at byte 32, pr_reg at byte 112. The kernel's has 27 registers. */
function read(noteBytes: number) {
  const note = new Uint8Array(noteBytes);
  const view = new DataView(note.buffer);
  view.setUint32(32, 1, true);
  for (let at = 112; at + 8 <= noteBytes; at += 8) view.setBigUint64(at, BigInt((at - 112) / 8), true);
  const kernel = { prstatus: [note], info: { machine: "x86_64" } } as unknown as GuestKernel;
  return registersOf(kernel, { pid: 7 } as TaskAt, { cpu: 0 } as PerCpuArea);
}

test("ip, sp and fp are registers 16, 19 and 4 of user_regs_struct; bit 9 of register 18 enables interrupts", () => {
  expect(read(336)).toEqual({ ip: 16n, sp: 19n, fp: 4n, isUser: false, areInterruptsOff: true });
});

test("a note that ends before its stack pointer has no registers", () => {
  expect(read(112 + 8 * 20)).toBeDefined();
  for (let bytes = 120; bytes < 112 + 8 * 20; bytes++) expect(read(bytes)).toBeUndefined();
});
