/** The check of hand-written layouts finds each difference from the kernel's BTF. */
import { expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { checkLayout } from "../../src/btf/check-layout.ts";
import { layout, u32, u64 } from "../../src/uapi/layout.ts";
import { liveSkipReason, vmlinuxBytes } from "./support/live.ts";

const kernelTest = test.skipIf(liveSkipReason() !== "");

kernelTest(
  "the layout of a struct, or of a named or unnamed member of a union, has no differences if it equals the kernel's",
  () => {
    const btf = Btf.parse(vmlinuxBytes());
    const info = layout("struct bpf_map_info", 88, { type: u32(0), id: u32(4), map_extra: u64(80) });
    expect(checkLayout(btf, info)).toEqual([]);
    const infoArm = layout("union bpf_attr", 16, { bpf_fd: u32(0), info_len: u32(4), info: u64(8) });
    expect(checkLayout(btf, infoArm, "info")).toEqual([]);
    const element = layout("union bpf_attr", 32, {
      map_fd: u32(0),
      key: u64(8),
      value: u64(16),
      flags: u64(24),
    });
    expect(checkLayout(btf, element)).toEqual([]);
  },
);

kernelTest("every field with a wrong offset, size or name is a difference", () => {
  const btf = Btf.parse(vmlinuxBytes());
  const wrong = layout("struct bpf_map_info", 8000, { type: u32(4), id: u64(4), nothing: u32(0) });
  expect(checkLayout(btf, wrong)).toEqual([
    "type: is at offset 0, not 4",
    "id: has 4 bytes, not 8",
    "nothing: there is no such member",
    expect.stringMatching(/^it has \d+ bytes, fewer than 8000$/),
  ]);
  expect(checkLayout(btf, layout("struct no_such", 4, { a: u32(0) }))).toEqual([
    "there is no struct no_such",
  ]);
  expect(checkLayout(btf, wrong, "x")).toEqual(["struct bpf_map_info has no member x"]);
  expect(checkLayout(btf, wrong, "id")).toEqual(["struct bpf_map_info.id is not a struct or union"]);
  expect(checkLayout(btf, layout("bpf_map_info", 4, {}))).toEqual([
    '"bpf_map_info" is not the name of a struct or union',
  ]);
});
