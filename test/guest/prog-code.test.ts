/** A program's instructions in memory, and as the kernel returns them (`bpf_insn_prepare_dump`). */
import { expect, test } from "bun:test";
import { readCallTargets, readProgCode } from "../../src/guest/bpf/prog-code.ts";
import { AddressNames } from "../../src/guest/kernel/names-at.ts";
import type { ProgCode } from "../../src/prog-code.ts";
import type { MapInfo, ProgInfo } from "../../src/state.ts";
import { MapType } from "../../src/uapi/names.ts";
import { ObjectMachine } from "./objects.ts";

type Raw = readonly [code: number, registers: number, offset: number, immediate: number];

function encode(insns: readonly Raw[]): Uint8Array {
  const bytes = new Uint8Array(8 * insns.length);
  const view = new DataView(bytes.buffer);
  for (const [index, [code, registers, offset, immediate]] of insns.entries()) {
    view.setUint8(8 * index, code);
    view.setUint8(8 * index + 1, registers);
    view.setInt16(8 * index + 2, offset, true);
    view.setUint32(8 * index + 4, immediate >>> 0, true);
  }
  return bytes;
}

const decode = ({ insns }: ProgCode): Raw[] => {
  const view = new DataView(insns.buffer);
  return Array.from({ length: insns.length / 8 }, (_, index) => [
    view.getUint8(8 * index),
    view.getUint8(8 * index + 1),
    view.getInt16(8 * index + 2, true),
    view.getInt32(8 * index + 4, true),
  ]);
};

interface Given {
  readonly insns: readonly Raw[];
  /** Number of instructions of each function. */
  readonly lengths?: readonly number[];
  readonly maps?: readonly MapInfo[];
  readonly len?: number;
  readonly aux?: Readonly<Record<string, number>>;
}

function read({ insns, lengths = [], maps = [], len = insns.length, aux = {} }: Given): ProgCode {
  const machine = new ObjectMachine();
  const { kernel } = machine;
  const functions = lengths.map((length) =>
    machine.address(machine.make("bpf_prog", { len: length, bpf_func: 0xffff_ffff_c000_0000n })),
  );
  const prog = machine.machine.allocate(56 + 8 * insns.length);
  const owner = machine.make("bpf_prog_aux", {
    func_cnt: functions.length,
    func: functions.length > 0 ? machine.list(functions) : 0,
    ...aux,
  });
  machine.set("bpf_prog", prog, { len, aux: machine.address(owner) });
  machine.machine.write(prog + 56, encode(insns));
  return readProgCode(kernel, { address: machine.address(prog) } as ProgInfo, maps);
}

test("a call of the program's own function has its distance in off and its number in imm, for both orders of storage", () => {
  const body: Raw[] = [
    [0x95, 0, 0, 0],
    [0x95, 0, 0, 0],
    [0x95, 0, 0, 0],
  ];
  // From instruction 0 to function 2, which begins at instruction 3.
  const lengths = [2, 1, 1];
  const expected: Raw = [0x85, 0x10, 2, 2];
  expect(decode(read({ insns: [[0x85, 0x10, 2, 2], ...body], lengths }))[0]).toEqual(expected);
  // To function 1, which begins at instruction 3: up to 7.1, and since then.
  const far = [3, 1];
  for (const stored of [
    [0x85, 0x10, 2, 1],
    [0x85, 0x10, 1, 2],
  ] as Raw[])
    expect(decode(read({ insns: [stored, ...body], lengths: far }))[0]).toEqual([0x85, 0x10, 2, 1]);
});

test("instructions that only the kernel uses are shown as they were loaded", () => {
  const stored: Raw[] = [
    [0xf5, 0, 0, 99], // BPF_TAIL_CALL
    [0xe5, 0x10, 3, -4], // BPF_CALL_ARGS
    [0x39, 0x21, 8, 0], // LDX | PROBE_MEM | DW
    [0xa3, 0x21, 8, 0], // STX | PROBE_MEM32 | W
    [0x59, 0x21, 8, 0], // LDX | PROBE_MEMSX | DW: the kernel keeps it
    [0x20, 0, 0, 12], // LD | ABS is not PROBE_MEM
  ];
  expect(decode(read({ insns: stored }))).toEqual([
    [0x85, 0, 0, 12],
    [0x85, 0x10, 3, -4],
    [0x79, 0x21, 8, 0],
    [0x63, 0x21, 8, 0],
    [0x59, 0x21, 8, 0],
    [0x20, 0, 0, 12],
  ]);
});

const map = (id: number, address: bigint, value: bigint, more: Partial<MapInfo> = {}): MapInfo =>
  ({
    id,
    type: MapType.array,
    maxEntries: 1,
    valueSize: 20,
    location: { address, physical: 0, valueAddress: value },
    ...more,
  }) as MapInfo;

test("addresses of maps, and into the value of an array of one element, are ids", () => {
  const at = 0xffff_8881_0000_1000n;
  const maps = [map(7, at, at + 256n), map(8, at + 4096n, at + 5000n, { maxEntries: 2 })];
  const load = (address: bigint): Raw[] => [
    [0x18, 1, 0, Number(BigInt.asIntN(32, address))],
    [0, 0, 0, Number(address >> 32n)],
  ];
  const one = (address: bigint): Raw[] => decode(read({ insns: load(address), maps }));
  const kept = (address: bigint): Raw[] =>
    load(address).map(([a, b, c, d]) => [a, b, c, Number(BigInt.asIntN(32, BigInt(d)))]);
  expect(one(at)).toEqual([
    [0x18, 0x11, 0, 7],
    [0, 0, 0, 0],
  ]);
  // A value of 20 bytes takes 24.
  expect(one(at + 256n + 23n)).toEqual([
    [0x18, 0x21, 0, 7],
    [0, 0, 0, 23],
  ]);
  for (const address of [at + 256n + 24n, at + 255n, at + 5000n]) expect(one(address)).toEqual(kept(address));
});

test("impossible counts are errors", () => {
  const insns: Raw[] = [[0x95, 0, 0, 0]];
  expect(() => read({ insns, len: 2 ** 31 })).toThrow("its len is 2147483648");
  expect(() => read({ insns, aux: { func_cnt: 1000 } })).toThrow("its func_cnt is 1000");
  expect(() => read({ insns, aux: { func_info_cnt: 1000 } })).toThrow("its func_info_cnt is 1000");
  expect(() => read({ insns, aux: { nr_linfo: 2 ** 31 } })).toThrow("its nr_linfo is 2147483648");
});

test("an offloaded program has no functions in the kernel", () => {
  const code = read({ insns: [[0x95, 0, 0, 0]], aux: { offload_requested: 1 } });
  expect(code).toMatchObject({ functionAddresses: [], functionCount: 0 });
  expect(read({ insns: [[0x95, 0, 0, 0]] })).toMatchObject({ functionAddresses: [0n], functionCount: 1 });
});

test("if __bpf_call_base is not known, the output says so", () => {
  const { kernel } = new ObjectMachine();
  expect(() => readCallTargets(kernel, new AddressNames(kernel), [])).toThrow("__bpf_call_base");
});
