/** Layouts of bpf(2)'s structs, compared with the kernel's BTF and headers. */
import { describe, expect, test } from "bun:test";
import { checkLayout } from "../../src/btf/check-layout.ts";
import {
  BATCH_ATTR,
  BTF_INFO,
  ELEMENT_ATTR,
  ENABLE_STATS_ATTR,
  ID_ATTR,
  INFO_ATTR,
  LINK_INFO,
  MAP_CREATE_ATTR,
  MAP_INFO,
  OBJ_ATTR,
  PROG_INFO,
  PROG_LOAD_ATTR,
  TEST_RUN_ATTR,
} from "../../src/uapi/bpf.ts";
import type { Layout } from "../../src/uapi/layout.ts";
import { liveSkipReason } from "../btf/support/live.ts";
import { kernelBtf } from "./support.ts";

const offsets = (layout: Layout): Record<string, number> =>
  Object.fromEntries(Object.entries(layout.fields).map(([name, field]) => [name, field.offset]));

describe("layouts have the documented offsets and sizes", () => {
  test("the element member of bpf_attr has 32 bytes: fd, key, value, flags", () => {
    expect(ELEMENT_ATTR.size).toBe(32);
    expect(offsets(ELEMENT_ATTR)).toEqual({ map_fd: 0, key: 8, value: 16, flags: 24 });
  });

  test("the id member of bpf_attr has 12 bytes", () => {
    expect(ID_ATTR.size).toBe(12);
    expect(offsets(ID_ATTR)).toEqual({ start_id: 0, next_id: 4, open_flags: 8 });
  });

  test("the info member of bpf_attr has 16 bytes", () => {
    expect(INFO_ATTR.size).toBe(16);
    expect(offsets(INFO_ATTR)).toEqual({ bpf_fd: 0, info_len: 4, info: 8 });
  });

  test("the layout of struct bpf_map_info covers 88 bytes", () => {
    expect(MAP_INFO.size).toBe(88);
    expect(offsets(MAP_INFO)).toEqual({
      type: 0,
      id: 4,
      key_size: 8,
      value_size: 12,
      max_entries: 16,
      map_flags: 20,
      name: 24,
      ifindex: 40,
      btf_vmlinux_value_type_id: 44,
      netns_dev: 48,
      netns_ino: 56,
      btf_id: 64,
      btf_key_type_id: 68,
      btf_value_type_id: 72,
      btf_vmlinux_id: 76,
      map_extra: 80,
    });
    expect(MAP_INFO.fields.name.size).toBe(16);
  });

  test("struct bpf_btf_info has 32 bytes", () => {
    expect(BTF_INFO.size).toBe(32);
    expect(offsets(BTF_INFO)).toEqual({
      btf: 0,
      btf_size: 8,
      id: 12,
      name: 16,
      name_len: 24,
      kernel_btf: 28,
    });
  });
});

describe.skipIf(liveSkipReason() !== "")("layouts are those of the running kernel", () => {
  const layouts: readonly Layout[] = [
    ELEMENT_ATTR,
    ID_ATTR,
    INFO_ATTR,
    BATCH_ATTR,
    OBJ_ATTR,
    ENABLE_STATS_ATTR,
    MAP_CREATE_ATTR,
    PROG_LOAD_ATTR,
    TEST_RUN_ATTR,
    MAP_INFO,
    PROG_INFO,
    BTF_INFO,
    LINK_INFO,
  ];
  for (const layout of layouts) {
    const names = Object.keys(layout.fields);
    test(`${layout.name} {${names.slice(0, 3).join(", ")}${names.length > 3 ? ", ..." : ""}}`, () => {
      // "union bpf_attr.batch" is a named member of the union. The size of a bit-field is not checked: C has none.
      const path = layout.name.split(".")[1] ?? "";
      const bitField = layout === PROG_INFO ? ["gpl_compatible: has 1 bits, not 1"] : [];
      expect(checkLayout(kernelBtf(), layout, path)).toEqual(bitField);
    });
  }
});
