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

/** Returns the instruction pointer of a task on a CPU, from notes with these pids. The note at index `n` has the ip `n`. */
function ipOf(pids: readonly number[], possible: readonly number[], pid: number, cpu: number) {
  const prstatus = pids.map((each, index) => {
    const note = new Uint8Array(336);
    const view = new DataView(note.buffer);
    view.setUint32(32, each, true);
    view.setBigUint64(112 + 8 * 16, BigInt(index), true);
    return note;
  });
  const kernel = { prstatus, info: { machine: "x86_64" }, cpus: { possible } } as unknown as GuestKernel;
  return registersOf(kernel, { pid } as TaskAt, { cpu } as PerCpuArea)?.ip;
}

test("of several notes with pid 0, an idle task's is at the position of its CPU among the possible CPUs", () => {
  const read = (cpu: number) => ipOf([0, 70, 0, 0], [0, 1, 4, 5], 0, cpu);
  expect([0, 4, 5].map(read)).toEqual([0n, 2n, 3n]);
  // The note of CPU 1 has another pid, and CPU 2 is not possible.
  expect([1, 2].map(read)).toEqual([undefined, undefined]);
});

test("several notes with pid 0 belong to no known CPU if some CPUs have no note", () => {
  expect(ipOf([0, 70, 0], [0, 1, 2, 3], 0, 2)).toBeUndefined();
  expect(ipOf([0, 70, 0], [0, 1, 2, 3], 70, 3)).toBe(1n);
});

test("a pid that one note has is found for any number of notes, and one that no note has is not", () => {
  expect(ipOf([0, 70], [0, 1, 2], 0, 2)).toBe(0n);
  expect(ipOf([0, 70], [0, 1], 71, 1)).toBeUndefined();
});
