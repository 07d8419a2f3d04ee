/** The symbol at an address, from `/proc/kallsyms`. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { openLive } from "../../src/live/live.ts";
import { SymbolTable } from "../../src/live/symbol-table.ts";
import { realSys, type Sys } from "../../src/live/sys.ts";
import { kernelSkipReason } from "./bpftool.ts";

const table = (...lines: string[]): SymbolTable => {
  const sys: Sys = { ...realSys, readFile: () => Buffer.from(lines.join("\n")) };
  return SymbolTable.read(sys);
};

test("an address belongs to the symbol at or before it, for any order of the file", () => {
  const symbols = table(
    "ffffffff81000000 T _stext",
    "ffffffff81000000 T _text",
    "ffffffff81000020 t later",
    "ffffffffc0200100 t xmit\t[dummy]",
    "ffffffffc0100000 t bpf_prog_0123456789abcdef_enqueue\t[bpf]",
    "",
  );
  expect(symbols.at(0xffffffff81000000n)).toBe("_stext");
  expect(symbols.at(0xffffffff8100001fn)).toBe("_stext+0x1f");
  expect(symbols.at(0xffffffff81000020n)).toBe("later");
  expect(symbols.at(0xffffffffc0200104n)).toBe("xmit+0x4 [dummy]");
  expect(symbols.at(0xffffffffc0100001n)).toBe("bpf_prog_0123456789abcdef_enqueue+0x1 [bpf]");
});

test("an address before all symbols or far after the nearest has no name: the heap, user space, NULL", () => {
  const symbols = table("ffffffff81000000 T _stext", "ffffffffc0200100 t xmit\t[dummy]");
  for (const address of [0n, 0x1000n, 0xffff888000001000n, 0xffffffff80ffffffn, 0xffffffff81200000n])
    expect(symbols.at(address)).toBeUndefined();
  expect(symbols.at(0xffffffffc0220000n)).toBeUndefined();
  expect(symbols.at(2n ** 64n + 0xffffffff81000000n)).toBeUndefined();
});

test("if addresses are hidden, or the file does not exist, no address has a name", () => {
  expect(table("0000000000000000 T _stext", "0000000000000000 T _text").at(0n)).toBeUndefined();
  expect(SymbolTable.read({ ...realSys, readFile: () => undefined }).at(0xffffffff81000000n)).toBeUndefined();
});

test.skipIf(kernelSkipReason() !== "")(
  "a thousand of the running kernel's symbols are found under a name of their address",
  () => {
    const names = new Map<bigint, Set<string>>();
    for (const line of readFileSync("/proc/kallsyms", "latin1").split("\n")) {
      const [, digits = "", name = ""] =
        /^(ffffffff[0-9a-f]{8}|ffff8000[0-9a-f]{8}) \S (\S+)$/.exec(line) ?? [];
      if (digits === "") continue;
      const address = BigInt(`0x${digits}`);
      names.set(address, (names.get(address) ?? new Set()).add(name));
    }
    expect(names.size).toBeGreaterThan(1000);
    using live = openLive();
    let seen = 0;
    for (const [address, known] of names) {
      if (seen++ % Math.ceil(names.size / 1000) !== 0) continue;
      const name = live.symbolAt(address) ?? "";
      expect(known).toContain(name);
      expect(live.symbolAt(address + 1n)?.replace(/\+0x1$/, "") ?? name).toBe(name);
    }
  },
);
