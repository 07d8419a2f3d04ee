/** Machine code as text: arm64 compared with LLVM's disassembler, x86-64 in binutils' spelling, and bytes that are no instruction. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadDisassembler } from "../../src/disasm/disassembler.ts";
import { which } from "../btf/support/live.ts";

const x86 = await loadDisassembler("x86_64");
const arm = await loadDisassembler("aarch64");
const text = (bytes: readonly number[], address = 0n): string[] =>
  [...x86.decode(Uint8Array.from(bytes), address)].map(({ operation, operands }) =>
    `${operation} ${operands.join(",")}`.trim(),
  );

/** One instruction of each form that the kernel's JIT for arm64 emits (arch/arm64/net/bpf_jit.h). */
const ARM64 = [
  ...[
    "bti c",
    "bti j",
    "paciasp",
    "autiasp",
    "nop",
    "ret",
    "br x10",
    "blr x10",
    "brk #1",
    "dmb ish",
    "sb",
    "isb",
  ],
  ...["stp x29, x30, [sp, #-16]!", "ldp x29, x30, [sp], #16", "stp x19, x20, [sp, #-16]!", "mov x29, sp"],
  ...[
    "add x0, x1, x2",
    "sub w0, w1, w2",
    "sub sp, sp, #64",
    "adds x0, x1, x2",
    "cmp x0, x1",
    "cmp w0, #5",
    "cmn x0, #1",
  ],
  ...[
    "neg x0, x0",
    "and x0, x1, x2",
    "ands x9, x0, x1",
    "orr w0, w1, w2",
    "eor x0, x1, x2",
    "tst x0, x1",
    "tst x0, #0xff",
  ],
  ...["mul x0, x1, x2", "madd x0, x1, x2, x3", "msub x0, x1, x2, x3", "udiv x0, x1, x2", "sdiv w0, w1, w2"],
  ...[
    "lsl x0, x1, x2",
    "lsr x0, x1, #7",
    "asr w0, w1, #3",
    "lsl x0, x1, #32",
    "ror x0, x1, x2",
    "rev16 w0, w0",
    "rev w0, w0",
    "rev x0, x0",
  ],
  ...[
    "uxth w0, w0",
    "uxtw x0, w0",
    "sxtb x0, w0",
    "sxth x0, w0",
    "sxtw x0, w0",
    "ubfx x0, x0, #0, #32",
    "mrs x0, sp_el0",
    "mrs x0, tpidr_el1",
  ],
  ...[
    "movz x0, #0x1234",
    "movk x0, #0x8000, lsl #16",
    "movn x0, #0x7",
    "mov w0, w1",
    "mov x0, #-1",
    "adr x10, #16",
    "adrp x0, #4096",
  ],
  ...[
    "ldrb w0, [x1, x2]",
    "ldrh w0, [x1, #4]",
    "ldr w0, [x1, x2]",
    "ldr x0, [x1, #8]",
    "ldrsb x0, [x1, #1]",
    "ldrsh x0, [x1]",
    "ldrsw x0, [x1, x2]",
    "ldr x0, #8",
  ],
  ...[
    "strb w0, [x1]",
    "strh w0, [x1, x2]",
    "str w0, [x1, #4]",
    "str x0, [x25, x1]",
    "ldur x0, [x1, #-8]",
    "stur w0, [x1, #-4]",
  ],
  ...[
    "ldxr x0, [x1]",
    "stxr w2, x0, [x1]",
    "stlxr w2, w0, [x1]",
    "ldar x0, [x1]",
    "stlr w0, [x1]",
    "ldarb w0, [x1]",
  ],
  ...[
    "stadd x0, [x1]",
    "ldaddal x0, x1, [x2]",
    "ldclral w0, w1, [x2]",
    "ldeoral x0, x1, [x2]",
    "ldsetal w0, w1, [x2]",
    "swpal x0, x1, [x2]",
    "casal x0, x1, [x2]",
    "stclr x0, [x1]",
  ],
  ...[
    "b #16",
    "bl #-16",
    "b.eq #8",
    "b.hi #8",
    "b.lt #-8",
    "cbz x0, #8",
    "cbnz w0, #8",
    "csel x0, x1, x2, lo",
    "prfm pstl1strm, [x1]",
  ],
];

const noLlvm = which("llvm-mc-19") === null && which("llvm-mc") === null;
test.skipIf(noLlvm)("arm64: instructions have the names of LLVM's disassembler", () => {
  const llvm = (words: readonly string[], input: string): string => {
    const tool = which("llvm-mc-19") ?? "llvm-mc";
    const command = [tool, "-triple=aarch64", "-mattr=+all", ...words];
    const { stdout, stderr } = Bun.spawnSync(command, { stdin: Buffer.from(input) });
    expect(stderr.toString()).toBe("");
    return stdout.toString();
  };
  const encoded = [...llvm(["--show-encoding"], ARM64.join("\n")).matchAll(/encoding: \[(.*)\]/g)];
  const bytes = encoded.map(([, list = ""]) => list.split(",").map(Number));
  expect(bytes).toHaveLength(ARM64.length);
  const lines = bytes.map((four) => four.map((byte) => `0x${byte.toString(16)}`).join(" "));
  const theirs = [...llvm(["--disassemble"], lines.join("\n")).matchAll(/^\t(\S+)(?:\t(.*))?$/gm)]
    .map(([, operation = ""]) => operation)
    .filter((operation) => !operation.startsWith("."));
  const mine = [...arm.decode(Uint8Array.from(bytes.flat()), 0n)];
  expect(mine.map(({ length }) => length)).toEqual(ARM64.map(() => 4));
  const different = mine.flatMap(({ operation, operands }, place) =>
    operation === theirs[place] ? [] : [`${operation} ${operands.join(", ")} | ${theirs[place]}`],
  );
  console.log("arm64", mine.length, "instructions, with other names:", different);
  expect(different.length / mine.length).toBeLessThan(0.05);
});

/** The output of `objdump -d` of binutils 2.40 for these bytes, at the address 0xffffffffc0000000. */
const X86 = [
  [[0x55], "push %rbp"],
  [[0x0f, 0x1f, 0x44, 0, 0], "nopl 0x0(%rax,%rax,1)"],
  [[0x48, 0x83, 0xc6, 0xfc], "add $0xfffffffffffffffc,%rsi"],
  [[0x83, 0xc6, 0xfc], "add $0xfffffffc,%esi"],
  [[0x48, 0xc7, 0x45, 0xf8, 5, 0, 0, 0], "movq $0x5,-0x8(%rbp)"],
  [[0x48, 0xd3, 0x65, 0], "shlq %cl,0x0(%rbp)"],
  [[0xf0, 0x48, 0x01, 0x38], "lock add %rdi,(%rax)"],
  [[0xe8, 0xfb, 0xff, 0xff, 0xff], "call 0xffffffffc0000000"],
  [[0xeb, 0xfe], "jmp 0xffffffffc0000000"],
  [[0x0f, 0x84, 0, 0, 0, 0], "je 0xffffffffc0000006"],
  [[0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], "mov %gs:0x28,%rax"],
  [[0x41, 0xff, 0xe3], "jmp *%r11"],
  [[0x90], "nop"],
  [[0x66, 0x90], "xchg %ax,%ax"],
  [[0x65, 0x48, 0x8b, 0x1c, 0x25, 0, 0, 0, 0], "mov %gs:0x0,%rbx"],
  [[0x48, 0x8b, 0x05, 0, 0, 0, 0], "mov 0x0(%rip),%rax"],
  [[0x48, 0x8b, 0x04, 0xc5, 0, 0, 0, 0], "mov 0x0(,%rax,8),%rax"],
  [[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], "mov 0x0,%rax"],
  [[0x48, 0x8b, 0x04, 0x24], "mov (%rsp),%rax"],
  [[0xff, 0x14, 0x25, 0, 0, 0, 0], "call *0x0"],
] as const;

test("x86-64 in binutils' spelling: suffixes, numbers, displacements, addresses", () => {
  for (const [bytes, said] of X86)
    expect([bytes, text(bytes, 0xffff_ffff_c000_0000n)]).toEqual([bytes, [said]]);
  expect([text([0xeb, 0xfe]), text([0x0f, 0x84, 0, 0, 0, 0])]).toEqual([["jmp 0x0"], ["je 0x6"]]);
});

test.skipIf(which("objdump") === null)("x86-64: instructions are those of binutils", () => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-objdump-"));
  try {
    for (const [bytes] of X86) {
      const file = join(folder, "code");
      writeFileSync(file, Uint8Array.from(bytes));
      const command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-w", file];
      const [, theirs = ""] = /^ +0:\t[^\t]*\t(.*)$/m.exec(Bun.spawnSync(command).stdout.toString()) ?? [];
      expect(text(bytes)).toEqual([theirs.replace(/ *#.*/, "").replace(/ +/g, " ").trim()]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("bytes that are not an instruction are shown one by one, and decoding continues after them", () => {
  expect(text([0x06, 0x90, 0x06])).toEqual(["(bad)", "nop", "(bad)"]);
  const words = [...arm.decode(Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0x1f, 0x20, 3, 0xd5, 1, 2]), 0n)];
  expect(
    words.map(({ offset, length, operation, operands }) => [offset, length, operation, ...operands]),
  ).toEqual([
    [0, 4, ".inst", "0xffffffff"],
    [4, 4, "nop"],
    [8, 2, ".inst", "0x0201"],
  ]);
  expect(text([])).toEqual([]);
});

test("a long function is decoded in pieces", () => {
  // Instructions of 7 bytes, so that pieces end within an instruction.
  const code = Array.from({ length: 20_000 }, () => [0x48, 0x81, 0xec, 0x68, 0, 0, 0]).flat();
  const all = [...x86.decode(Uint8Array.from(code), 0n)];
  expect(all).toHaveLength(20_000);
  expect(all.every(({ length, operation }) => length === 7 && operation === "sub")).toBe(true);
});

test("a machine that is neither x86-64 nor arm64 is an error", () => {
  expect(loadDisassembler("riscv64")).rejects.toThrow("has no disassembler for riscv64");
});
