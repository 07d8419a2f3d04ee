/** The code that tools/patch-stack.ts adds to the executables equals the text in its table, as decoded by Capstone. */
import { expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadDisassembler } from "../../src/disasm/disassembler.ts";
import { patchStack } from "../../tools/patch-stack.ts";
import { jumpTo, stackCode, type Targets } from "../../tools/stack-code.ts";

const ADDRESS = 0x778_cc00;
/** Distances as in Bun's file: on other pages, before and after the code. */
const TARGETS: Targets = {
  slot: 0x688_0ca0,
  pthread_attr_init: 0x683_5790,
  dlsym: 0x683_6f40,
  getrlimit: 0x778_0ff0,
  pthread_attr_setstack: 0x79a_5670,
};
const hex = (value: number): string => `${value < 0 ? "-" : ""}0x${Math.abs(value).toString(16)}`;

async function disassemble(machine: "x86_64" | "aarch64", bytes: Uint8Array, at: number): Promise<string[]> {
  const { decode } = await loadDisassembler(machine);
  const separator = machine === "x86_64" ? "," : ", ";
  return [...decode(bytes, BigInt(at))].map(({ operation, operands }) =>
    `${operation} ${operands.join(separator)}`.trim(),
  );
}

test.each(["x86_64", "aarch64"] as const)("each instruction of %s equals its text", async (machine) => {
  const { bytes, lines, labels } = stackCode(machine, ADDRESS, TARGETS);
  const end = labels.get("name")! - ADDRESS;
  expect(new TextDecoder().decode(bytes.subarray(end))).toBe("getauxval\0");
  const read = await disassemble(machine, bytes.subarray(0, end), ADDRESS);
  let at = ADDRESS;
  const expected = lines.map(([text, code, reference]) => {
    at +=
      typeof code === "number" ? 4 : code.length / 2 + (reference?.[0] === "rel8" ? 1 : reference ? 4 : 0);
    const [, label = ""] = reference ?? [];
    const to = labels.get(label) ?? 0;
    const immediate = machine === "x86_64" ? "" : "#";
    return text
      .replace(`page(${label})`, `#${hex(to - (to % 4096))}`)
      .replace(`low(${label})`, `#${hex(to % 4096)}`)
      .replace(new RegExp(`(?<= \\*?)${label}(?=$|,|\\s)`), () => {
        if (text === "call *slot" || text.startsWith("lea")) return `${hex(to - at)}(%rip)`;
        return immediate + hex(to);
      });
  });
  expect(read).toEqual(expected);
});

test.each([
  ["x86_64", "jmp 0x778cc00"],
  ["aarch64", "b #0x778cc00"],
] as const)("the PLT entry of %s jumps to the code", async (machine, text) => {
  const bytes = jumpTo(machine, 0x684_8df0, ADDRESS);
  expect(await disassemble(machine, bytes, 0x684_8df0)).toEqual([text]);
});

test("a reference that does not fit is an error", () => {
  expect(() => stackCode("aarch64", ADDRESS, { ...TARGETS, dlsym: 0x1_0000_0000 })).toThrow("bl dlsym");
  expect(() => stackCode("x86_64", ADDRESS, { ...TARGETS, slot: 0x1_0000_0000 })).toThrow("call *slot");
});

test("an executable that is not Bun's is an error, and is not changed", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-patch-"));
  try {
    const path = join(folder, "sh");
    copyFileSync("/bin/sh", path);
    const before = readFileSync(path);
    await expect(patchStack(path)).rejects.toThrow(path);
    expect(readFileSync(path).equals(before)).toBe(true);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
