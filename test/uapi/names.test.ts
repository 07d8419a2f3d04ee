/** Tables of names and numbers, compared with the kernel's BTF and headers. */
import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import { BPF_STATS_RUN_TIME, COMMANDS } from "../../src/uapi/bpf.ts";
import * as errno from "../../src/uapi/errno.ts";
import { HELPERS } from "../../src/uapi/helpers.ts";
import {
  ATTACH_TYPES,
  BPF_F_MMAPABLE,
  BPF_F_NO_PREALLOC,
  BPF_F_RDONLY,
  BPF_F_SEGV_ON_FAULT,
  BPF_F_WRONLY,
  BPF_OBJ_NAME_LEN,
  LINK_TYPES,
  MAP_TYPES,
  MapType,
  PROG_TYPES,
  ProgType,
} from "../../src/uapi/names.ts";
import { liveSkipReason, run } from "../btf/support/live.ts";
import { kernelConstant, kernelEnum, kernelField } from "./support.ts";

/** Compares every number that both the table and the kernel have. Of aliases, the table must have one. */
function expectNames(table: readonly string[], enumName: string, prefix: string): void {
  const byValue = new Map<number, string[]>();
  for (const [name, value] of kernelEnum(enumName)) {
    if (name.startsWith("__")) continue;
    expect(name.startsWith(prefix)).toBe(true);
    byValue.set(value, [...(byValue.get(value) ?? []), name.slice(prefix.length).toLowerCase()]);
  }
  expect(byValue.size).toBeGreaterThan(10);
  for (const [value, names] of byValue) {
    const ours = table[value];
    if (ours !== undefined) expect(names).toContain(ours);
  }
}

describe.skipIf(liveSkipReason() !== "")("names are those of the running kernel", () => {
  test("map types", () => expectNames(MAP_TYPES, "bpf_map_type", "BPF_MAP_TYPE_"));
  test("program types", () => expectNames(PROG_TYPES, "bpf_prog_type", "BPF_PROG_TYPE_"));
  test("link types", () => expectNames(LINK_TYPES, "bpf_link_type", "BPF_LINK_TYPE_"));
  test("attach types", () => expectNames(ATTACH_TYPES, "bpf_attach_type", "BPF_"));

  test("helpers", () => expectNames(HELPERS, "bpf_func_id", "BPF_FUNC_"));

  test("commands", () => {
    const kernel = kernelEnum("bpf_cmd");
    for (const [name, value] of Object.entries(COMMANDS))
      expect([name, kernel.get(name)]).toEqual([name, value]);
  });

  test("flags and small constants", () => {
    const ours = { BPF_F_NO_PREALLOC, BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_MMAPABLE, BPF_F_SEGV_ON_FAULT };
    for (const [name, value] of Object.entries(ours)) {
      // A flag that is newer than the running kernel is in none of its enums.
      const theirs = kernelConstant(name);
      if (theirs !== undefined || name !== "BPF_F_SEGV_ON_FAULT")
        expect([name, theirs]).toEqual([name, value]);
    }
    expect(kernelEnum("bpf_stats_type").get("BPF_STATS_RUN_TIME")).toBe(BPF_STATS_RUN_TIME);
    expect(kernelField("bpf_map_info", "name")?.size).toBe(BPF_OBJ_NAME_LEN);
  });
});

describe("errno", () => {
  test("has the system's numbers", () => {
    for (const [name, value] of Object.entries(errno)) {
      if (typeof value !== "number" || name === "ENOTSUPP") continue;
      expect([name, value]).toEqual([name, Reflect.get(constants.errno, name)]);
      expect(errno.errnoName(value)).toBe(name);
    }
    for (const [name, value] of Object.entries(constants.errno)) {
      const ours = errno.errnoName(value);
      if (ours !== `errno ${value}` && name !== "EWOULDBLOCK" && name !== "ENOTSUP") expect(ours).toBe(name);
    }
    expect(errno.errnoName(524)).toBe("ENOTSUPP");
    expect(errno.errnoName(9999)).toBe("errno 9999");
  });

  const noPerl = Bun.which("perl") === null;
  test.skipIf(noPerl)("has the messages of glibc, as bpftool prints them", () => {
    for (const number of [1, 2, 4, 7, 9, 12, 13, 14, 16, 22, 28, 95, 524]) {
      expect(errno.strerror(number)).toBe(run("perl", "-e", `$! = ${number}; print "$!"`));
    }
    expect(errno.strerror(9999)).toBe("errno 9999");
  });
});

test("each table and its inverse are consistent", () => {
  expect(MapType.arena).toBe(33);
  expect(MapType.hash).toBe(1);
  expect(ProgType.struct_ops).toBe(27);
  for (const [name, value] of Object.entries(MapType))
    expect<string | undefined>(MAP_TYPES[value]).toBe(name);
});
