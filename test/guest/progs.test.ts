/** Programs in states that no kernel produces on demand. */
import { expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { listProgs } from "../../src/guest/bpf/progs.ts";
import type { ProgInfo } from "../../src/state.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { ObjectMachine } from "./objects.ts";

const emptyTypes = (): Btf => {
  throw new Error("nothing has BTF here");
};

const list = (machine: ObjectMachine): readonly ProgInfo[] =>
  listProgs(machine.kernel, emptyTypes, machine.warn);

/** Returns the only program of a machine. */
function only(machine: ObjectMachine, prog: number, id = 5): ProgInfo {
  machine.idr("prog_idr", { [id]: prog });
  const [first, ...others] = list(machine);
  expect(others).toEqual([]);
  if (first === undefined) throw new Error(machine.warnings.join());
  return first;
}

test("attributes are read at the offsets of the BTF", () => {
  const machine = new ObjectMachine();
  const user = machine.make("user_struct", { "uid.val": 1000 });
  const { prog } = machine.prog(
    5,
    {
      type: 27,
      len: 12,
      jited_len: 77,
      pages: 2,
      gpl_compatible: 1,
      tag: "\x01\x02\x03\x04\x05\x06\x07\x08",
    },
    {
      name: "fifteen_bytes_n",
      user: machine.address(user),
      load_time: 123_456_789_012n,
      verified_insns: 44,
      attach_btf_id: 99,
    },
  );
  const info = only(machine, prog);
  expect(info).toEqual({
    id: 5,
    type: 27,
    name: Buffer.from("fifteen_bytes_n"),
    fullName: Buffer.from("fifteen_bytes_n"),
    tag: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
    gplCompatible: true,
    loadTimeNs: 123_456_789_012n,
    createdByUid: 1000,
    device: undefined,
    mapIds: [],
    btfId: 0,
    attachBtfObjId: 0,
    attachBtfId: 99,
    translatedBytes: 96,
    jitedBytes: 77,
    jited: true,
    memlockBytes: 8192,
    verifiedInsns: 44,
    stats: {
      ok: false,
      why: { reason: "not-present", detail: "the program has no counters (bpf_prog.stats is NULL)" },
    },
    address: machine.address(prog),
  });
  expect(machine.warnings).toEqual([]);
});

test("used_map_cnt of 70 gives the 64 maps that a kernel allows, with a warning", () => {
  const machine = new ObjectMachine();
  const maps = Array.from({ length: 70 }, (_, index) => machine.make("bpf_map", { id: 100 + index }));
  const used_maps = machine.list(maps.map((map) => machine.address(map)));
  const { prog } = machine.prog(5, {}, { used_maps, used_map_cnt: 70 });
  expect(only(machine, prog).mapIds).toEqual(Array.from({ length: 64 }, (_, index) => 100 + index));
  expect(machine.warnings).toEqual([
    "prog_idr: not everything could be read: 1 × more maps than the kernel allows: program 5: used_map_cnt is 70, at most 64",
  ]);
});

test("maps keep the kernel's order; a NULL list and a NULL entry are skipped", () => {
  const machine = new ObjectMachine();
  const [a, b] = [9, 3].map((id) => machine.address(machine.make("bpf_map", { id })));
  const used_maps = machine.list([a!, 0n, b!]);
  expect(only(machine, machine.prog(5, {}, { used_maps, used_map_cnt: 3 }).prog).mapIds).toEqual([9, 3]);
  const other = new ObjectMachine();
  expect(only(other, other.prog(5, {}, { used_map_cnt: 3 }).prog).mapIds).toEqual([]);
  expect(other.warnings).toEqual([]);
});

test("a program whose maps are outside the image has no maps, with a warning", () => {
  const machine = new ObjectMachine();
  const { prog } = machine.prog(5, { type: 6 }, { used_maps: 0xffff_8880_7000_0000n, used_map_cnt: 2 });
  const info = only(machine, prog);
  expect(info.type).toBe(6);
  expect(info.mapIds).toEqual([]);
  expect(machine.warnings).toHaveLength(1);
  expect(machine.warnings[0]).toMatch(
    /1 × memory .*program 5, its maps: read bpf_prog\.aux->used_maps\[0\]: 0x/,
  );
});

test("a program of several functions has their code", () => {
  const machine = new ObjectMachine();
  const funcs = [10, 20, 30].map((jited_len) => machine.address(machine.make("bpf_prog", { jited_len })));
  const { prog } = machine.prog(5, { jited_len: 10 }, { func: machine.list(funcs), func_cnt: 3 });
  expect(only(machine, prog).jitedBytes).toBe(60);
});

test("more functions than the kernel allows are not walked", () => {
  const machine = new ObjectMachine();
  const { prog } = machine.prog(5, { jited_len: 10 }, { func: machine.list([0n]), func_cnt: 0xffff_ffff });
  const info = only(machine, prog);
  expect(info.jitedBytes).toBe(0);
  expect(machine.warnings[0]).toContain("func_cnt is 4294967295; the kernel allows at most 256");
});

test("a program that is being freed, or was reused, is left out and counted", () => {
  const machine = new ObjectMachine();
  const kept = machine.prog(1).prog;
  const freed = machine.prog(2, {}, { "refcnt.counter": 0 }).prog;
  const other = machine.prog(44).prog;
  const torn = machine.make("bpf_prog", { aux: 0xdead_0000_0000_0100n });
  machine.idr("prog_idr", { 1: kept, 2: freed, 3: other, 4: torn });
  expect(list(machine).map(({ id }) => id)).toEqual([1]);
  expect(machine.warnings).toHaveLength(1);
  expect(machine.warnings[0]).toStartWith(
    "prog_idr: not everything could be read: 1 × being freed, 1 × its id member differs, 1 × memory not-canonical: program 2: being freed",
  );
});

test("the BTF of a target program takes precedence over the kernel's", () => {
  const machine = new ObjectMachine();
  const [kernel, target] = [1, 33].map((id) => machine.make("btf", { id, "refcnt.refs.counter": 1 }));
  const attach_btf = machine.address(kernel!);
  const { prog: first } = machine.prog(5, {}, { attach_btf });
  expect(only(machine, first).attachBtfObjId).toBe(1);
  const { prog: dst } = machine.prog(6, {}, { btf: machine.address(target!) });
  const { prog: second } = machine.prog(7, {}, { attach_btf, dst_prog: machine.address(dst) });
  expect(only(machine, second, 7).attachBtfObjId).toBe(33);
});

test("the full name is that of the first function, if it begins with the kernel's 15 bytes", () => {
  const w = new BtfWriter();
  const proto = w.raw(13, "", 0);
  const long = w.raw(12, "a_function_with_a_long_name", proto);
  const other = w.raw(12, "something_else_altogether", proto);
  const types = Btf.parse(w.bytes());
  for (const [typeId, name, whole] of [
    [long, "a_function_with", "a_function_with_a_long_name"],
    [long, "a_function_wit", "a_function_wit"],
    [other, "a_function_with", "a_function_with"],
    [proto, "a_function_with", "a_function_with"],
    [99, "a_function_with", "a_function_with"],
  ] as const) {
    const machine = new ObjectMachine();
    const btf = machine.address(machine.make("btf", { id: 3 }));
    const func_info = machine.address(machine.make("bpf_func_info", { type_id: typeId }));
    const { prog } = machine.prog(5, {}, { name, btf, func_info, func_info_cnt: 1 });
    machine.idr("prog_idr", { 5: prog });
    const [info] = listProgs(machine.kernel, () => types, machine.warn);
    expect(Buffer.from(info!.fullName).toString()).toBe(whole);
  }
});
