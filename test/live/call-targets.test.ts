/** Names of called functions from `/proc/kallsyms`, and code that no kernel produces on demand. */
import { expect, test } from "bun:test";
import { Fd } from "../../src/ffi.ts";
import { Attr } from "../../src/live/attr.ts";
import { readCallTargets } from "../../src/live/call-targets.ts";
import { readMachineCode, readProgCode } from "../../src/live/prog-code.ts";
import { realSys, type Sys } from "../../src/live/sys.ts";
import type { CallTargets, ProgCode } from "../../src/prog-code.ts";
import { ID_ATTR } from "../../src/uapi/bpf.ts";
import { call } from "../../src/uapi/insn.ts";
import { FakeKernel } from "./fake.ts";

const calls = (...distances: number[]): ProgCode => ({
  insns: Buffer.concat(distances.map(call)),
  functions: [],
  lines: new Uint32Array(0),
  functionAddresses: [],
  lineAddresses: [],
  functionCount: 1,
});

function targets(lines: readonly string[], ...distances: number[]): CallTargets {
  const bytes = Buffer.from(`${lines.join("\n")}\n`);
  // In one piece, and in pieces that end within lines and between names of one address: the result is the same.
  const [whole, ...others] = [bytes.length, 100, 27, 7].map((size) => {
    const all = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
      bytes.subarray(index * size, (index + 1) * size),
    );
    return readCallTargets({ ...realSys, pieces: () => all }, [calls(...distances)]);
  });
  for (const other of others) expect(other).toEqual(whole!);
  return whole!;
}

const SYMBOLS = [
  "ffffffff81000000 T _stext",
  "ffffffff81000100 T __bpf_call_base",
  "ffffffff81001000 T bpf_a",
  "ffffffff81001000 T bpf_b",
  "ffffffff81001000 T bpf_c",
  "ffffffff81002000 T later",
  "ffffffffc0200100 t bpf_kfunc\t[dummy]",
];

test("the target of a call is its distance from __bpf_call_base, even in modules", () => {
  const { base, names } = targets(SYMBOLS, 0x3f200000, 0x1f00, -0x100, 0x1f01);
  expect(base).toBe(0xffffffff81000100n);
  expect([...names.values()].sort()).toEqual(["_stext", "bpf_kfunc", "later"]);
});

test("an address with several names has the one that bpftool's binary search over all symbols finds", () => {
  // The search begins at symbol 3 of 7, 4 of 8, 2 of 4 and 2 of 5, counted from 0.
  expect([...targets(SYMBOLS, 0xf00).names.values()]).toEqual(["bpf_b"]);
  expect([...targets(["ffffffff80000000 T first", ...SYMBOLS], 0xf00).names.values()]).toEqual(["bpf_b"]);
  expect([...targets(SYMBOLS.slice(1, 5), 0xf00).names.values()]).toEqual(["bpf_b"]);
  expect([...targets(SYMBOLS.slice(0, 5), 0xf00).names.values()]).toEqual(["bpf_a"]);
});

test("if addresses are hidden, or the file does not exist, no address has a name", () => {
  const hidden = SYMBOLS.map((line) => line.replace(/^\w+/, "0".repeat(16)));
  expect(targets(hidden, 0xf00)).toEqual({ base: 0n, names: new Map() });
  expect(readCallTargets({ ...realSys, pieces: () => [] }, [calls(1)]).base).toBe(0n);
});

test("the file is read only until all addresses are found", () => {
  let pieces = 0;
  const sys: Sys = {
    ...realSys,
    *pieces() {
      for (const line of SYMBOLS) {
        pieces++;
        yield Buffer.from(`${line}\n`);
      }
    },
  };
  // `_stext` is before the base, and `later` is the sixth line.
  expect([...readCallTargets(sys, [calls(-0x100)]).names.values()]).toEqual(["_stext"]);
  expect(pieces).toBe(3);
  pieces = 0;
  expect([...readCallTargets(sys, [calls(0x1f00)]).names.values()]).toEqual(["later"]);
  expect(pieces).toBe(7);
});

function read<T>(info: Readonly<Record<string, number>>, how: (sys: Sys, fd: Fd, object: string) => T): T {
  const kernel = new FakeKernel();
  kernel.progs.set(1, { id: 1, info });
  const fd = kernel.bpf("BPF_PROG_GET_FD_BY_ID", new Attr(ID_ATTR, { start_id: 1 }));
  using owned = new Fd(fd, "program 1", () => {});
  return how(kernel, owned, "program 1");
}

const codeOf = (info: Readonly<Record<string, number>>): ProgCode => read(info, readProgCode);

test("data without a pointer from the kernel is not shown, and an impossible size is an error", () => {
  const hidden = { xlated_prog_len: 16, xlated_prog_insns: 0, jited_ksyms: 0, nr_jited_ksyms: 3 };
  expect(codeOf(hidden)).toMatchObject({ insns: new Uint8Array(0), functionAddresses: [], functionCount: 3 });
  expect(() => codeOf({ xlated_prog_len: 2 ** 30 })).toThrow("xlated_prog_len is 1073741824");
  expect(read({ jited_prog_len: 16, jited_prog_insns: 0, nr_jited_func_lens: 1 }, readMachineCode)).toEqual(
    [],
  );
  expect(() => read({ jited_prog_len: 2 ** 30 }, readMachineCode)).toThrow("jited_prog_len is 1073741824");
});
