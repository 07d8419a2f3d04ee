/** `btf dump ... format raw`, compared with bpftool, byte for byte. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Btf } from "../../src/btf/btf.ts";
import { rawJson, rawText } from "../../src/btf/raw.ts";
import { LONG_MS, liveSkipReason, run, vmlinuxBytes } from "./support/live.ts";
import { LoadedObject } from "./support/load.ts";

const why = liveSkipReason("bpftool", "clang-19", "llvm-objcopy-19");
const liveTest = test.skipIf(why !== "");
let loaded: LoadedObject;
let program: Btf;

beforeAll(() => {
  if (why !== "") return;
  loaded = LoadedObject.load();
  const section = `${loaded.objectFile}.btf`;
  run("llvm-objcopy-19", "--dump-section", `.BTF=${section}`, loaded.objectFile);
  program = Btf.parse(readFileSync(section));
});
afterAll(() => {
  if (why === "") loaded[Symbol.dispose]();
});

describe("a raw dump is equal to bpftool's, byte for byte", () => {
  liveTest(
    "of the kernel's types as JSON and as text",
    () => {
      const btf = Btf.parse(vmlinuxBytes());
      const dump = ["btf", "dump", "file", "/sys/kernel/btf/vmlinux"];
      expect([...rawJson(btf)].join("") === run("bpftool", "-j", ...dump).trimEnd()).toBe(true);
      expect([...rawText(btf)].join("") === run("bpftool", ...dump)).toBe(true);
    },
    LONG_MS,
  );

  liveTest("of a program's types as JSON and as text", () => {
    const dump = ["btf", "dump", "file", loaded.objectFile];
    expect([...rawJson(program)].join("")).toBe(run("bpftool", "-j", ...dump).trimEnd());
    expect([...rawText(program)].join("")).toBe(run("bpftool", ...dump));
  });

  liveTest("of a program's types in the kernel, by id", () => {
    const map = loaded.map("types_data");
    const dump = ["btf", "dump", "id", String(map.btfId)];
    expect([...rawJson(map.btf)].join("")).toBe(run("bpftool", "-j", ...dump).trimEnd());
    expect([...rawText(map.btf)].join("")).toBe(run("bpftool", ...dump));
  });
});
