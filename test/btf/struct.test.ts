/** Tables of members (src/btf/struct.ts) that are resolved in BTF. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Btf } from "../../src/btf/btf.ts";
import {
  at,
  bits,
  bytes,
  i32,
  LayoutError,
  optional,
  place,
  ptr,
  struct,
  u8,
  u16,
  u32,
  u64,
} from "../../src/btf/struct.ts";
import { BtfWriter } from "./support/encode.ts";
import { LONG_MS, liveSkipReason, run, vmlinuxBytes } from "./support/live.ts";

const compilerTest = test.skipIf(liveSkipReason("bpftool", "cc") !== "");

compilerTest(
  "a table's offsets are the ones that a C compiler gives the kernel's structs",
  () => {
    const btf = Btf.parse(vmlinuxBytes(), { name: "vmlinux" });
    const tables = {
      bpf_map: struct("bpf_map", {
        id: u32,
        name: bytes(16),
        max_entries: u32,
        map_extra: u64,
        btf: ptr,
        frozen: u8,
      }),
      bpf_array: struct("bpf_array", { "map.id": u32, elem_size: u32, value: place, pptrs: place }),
      bpf_prog: struct("bpf_prog", { pages: u16, type: u32, aux: ptr, stats: ptr, tag: bytes(8) }),
      bpf_prog_aux: struct("bpf_prog_aux", { id: u32, used_maps: ptr, name: bytes(16), load_time: u64 }),
      xa_node: struct("xa_node", { shift: u8, offset: u8, slots: bytes(512), "slots[3]": ptr }),
      task_struct: struct("task_struct", { pid: i32, comm: bytes(16), "se.vruntime": u64 }),
    };
    const expressions: string[] = [];
    const ours: number[] = [];
    for (const [name, table] of Object.entries(tables)) {
      for (const [member, offset] of Object.entries<number | undefined>(table.resolve(btf))) {
        const c = `struct ${name}`;
        expressions.push(member === "sizeof" ? `sizeof(${c})` : `__builtin_offsetof(${c}, ${member})`);
        ours.push(offset!);
      }
    }
    const directory = mkdtempSync(join(tmpdir(), "ktstr-struct-"));
    try {
      const vmlinux = run("bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c");
      const body = expressions.map((expression) => `p("%d\\n", (int)${expression});`).join("\n");
      writeFileSync(
        join(directory, "a.c"),
        `${vmlinux}\nextern int p(const char *, ...) __asm__("printf");\nint main(void) {\n${body}\nreturn 0;\n}\n`,
      );
      run("cc", "-w", "-fno-builtin", "-o", join(directory, "a"), join(directory, "a.c"));
      expect(ours).toEqual(run(join(directory, "a")).trim().split("\n").map(Number));
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
  LONG_MS,
);

describe("a table of a struct", () => {
  const writer = new BtfWriter();
  const int = writer.int("unsigned int", 4);
  const inner = writer.struct("inner", 8, [
    ["x", int, 0],
    ["y", int, 32],
  ]);
  writer.struct("thing", 24, [
    ["id", int, 0],
    ["in", inner, 32],
    ["on", int, 96, 1],
    ["next", writer.pointer(0), 128],
  ]);
  const anonymous = writer.struct("", 8, [["x", int, 0]]);
  writer.typedef("alias_t", anonymous);
  const btf = Btf.parse(writer.bytes(), { name: "a kernel" });

  test("has a number for each member, and undefined for a missing optional one", () => {
    const table = struct("thing", {
      id: u32,
      "in.y": u32,
      later: at(u32, "in.x"),
      renamed: at(ptr, "following", "next"),
      on: bits(1),
      gone: optional(u64, "until 5.1"),
      there: optional(at(u32, "id"), "since 5.2"),
    });
    const offsets = table.resolve(btf);
    expect(offsets).toEqual({
      id: 0,
      "in.y": 8,
      later: 4,
      renamed: 16,
      on: 96,
      gone: undefined,
      there: 0,
      sizeof: 24,
    });
    const required: number = offsets.id;
    const maybe: number | undefined = offsets.gone;
    expect([required, maybe]).toEqual([0, undefined]);
    expect(table.resolve(btf)).toBe(offsets);
  });

  test("may describe a typedef's struct", () => {
    expect(struct("alias_t", { x: u32 }).resolve(btf)).toEqual({ x: 0, sizeof: 8 });
  });

  test("lists all mismatches in one error", () => {
    const table = struct("thing", {
      id: u64,
      missing: u32,
      moved: at(u8, "a", "b.c"),
      on: u8,
      next: bits(2),
      in: bytes(9),
      x: optional(at(u16, "in.x"), "since 9.9"),
    });
    expect(() => table.resolve(btf)).toThrow(LayoutError);
    expect(() => table.resolve(btf)).toThrow(
      "resolve struct thing in the BTF of a kernel: id has 4 bytes, but is read as u64; no member missing (u32); " +
        "no member a or b.c (u8); on is a bit-field, not u8; next is not a bit-field; in has 8 bytes, but is read as " +
        "bytes(9); in.x (since 9.9) has 4 bytes, but is read as u16",
    );
  });

  test("of a missing struct is undefined or an error, depending on the call", () => {
    const table = struct("absent", { id: u32 });
    expect(table.resolveIfPresent(btf)).toBeUndefined();
    expect(() => table.resolve(btf)).toThrow("resolve struct absent: the BTF of a kernel has no such struct");
  });
});

test("a member that ends past its struct's size is an error, because a walker locates only that size", () => {
  const writer = new BtfWriter();
  const int = writer.int("unsigned int", 4);
  writer.struct("cut", 8, [
    ["id", int, 0],
    ["late", int, 48],
  ]);
  const btf = Btf.parse(writer.bytes());
  expect(struct("cut", { id: u32 }).resolve(btf)).toEqual({ id: 0, sizeof: 8 });
  expect(() => struct("cut", { id: u32, late: u32 }).resolve(btf)).toThrow("late ends at byte 10 of 8");
});
