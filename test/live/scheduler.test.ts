/** Finding the attached sched_ext scheduler, on a fake kernel. */
import { describe, expect, test } from "bun:test";
import { openLive } from "../../src/live/live.ts";
import { pinByName } from "../../src/live/pin.ts";
import { LinkType, MapType, ProgType } from "../../src/uapi/names.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { FakeKernel } from "./fake.ts";

/** `enum bpf_struct_ops_state`. */
const INUSE = 1;
const TOBEFREE = 2;
const READY = 3;

const NAME_AT = 32;
const VALUE_BYTES = 192;

/** Types of a kernel with sched_ext: two callbacks, a name, and the struct that the kernel wraps around them. */
function schedExtTypes(): { bytes: Uint8Array; valueType: number; otherType: number } {
  const btf = new BtfWriter();
  const u32 = btf.int("unsigned int", 4);
  const char = btf.int("char", 1);
  const callback = btf.pointer(0);
  const name = btf.array(char, 128, u32);
  const common = btf.struct("bpf_struct_ops_common", 8, [
    ["refcnt", u32, 0],
    ["state", u32, 32],
  ]);
  const ops = btf.struct("sched_ext_ops", 160, [
    ["select_cpu", callback, 0],
    ["dispatch", callback, 64],
    ["flags", u32, 128],
    ["name", name, 192],
  ]);
  const valueType = btf.struct("bpf_struct_ops_sched_ext_ops", VALUE_BYTES, [
    ["common", common, 0],
    ["data", ops, 64],
  ]);
  const otherType = btf.struct("bpf_struct_ops_tcp_congestion_ops", VALUE_BYTES, [
    ["common", common, 0],
    ["data", ops, 64],
  ]);
  return { bytes: btf.bytes(), valueType, otherType };
}

const types = schedExtTypes();

interface Generation {
  /** Ids: the struct_ops map is `base`, .bss `base` + 1, .rodata `base` + 2, programs `base` + 3 and + 4. */
  readonly base: number;
  readonly state: number;
  readonly ops?: string;
  readonly object?: string;
  readonly linked?: boolean;
  readonly valueType?: number;
}

function addGeneration(kernel: FakeKernel, generation: Generation): void {
  const { base, state, ops = "simple", object = "scx_simp", linked = false } = generation;
  const { valueType = types.valueType } = generation;
  const map = kernel.addMap({
    id: base,
    name: `${ops}_ops`,
    type: MapType.struct_ops,
    valueSize: VALUE_BYTES,
    maxEntries: 1,
    info: { btf_vmlinux_value_type_id: valueType },
  });
  const value = new Uint8Array(VALUE_BYTES);
  const view = new DataView(value.buffer);
  view.setUint32(4, state, true);
  view.setUint32(8, base + 3, true);
  view.setUint32(16, base + 4, true);
  view.setUint32(24, 99, true); // ops.flags is not a program
  value.set(new TextEncoder().encode(ops), NAME_AT);
  map.elements.set("00000000", value);
  kernel.addMap({ id: base + 1, name: `${object}.bss`, type: MapType.array, maxEntries: 1 }).putAll(1);
  kernel.addMap({ id: base + 2, name: `${object}.rodata`, type: MapType.array, maxEntries: 1 }).putAll(1);
  for (const [id, uses] of [
    [base + 3, [base + 1, base + 2]],
    [base + 4, [base + 1]],
  ] as const) {
    kernel.progs.set(id, {
      id,
      info: { type: ProgType.struct_ops, nr_map_ids: uses.length },
      pointees: { map_ids: new Uint8Array(Uint32Array.from(uses).buffer) },
    });
  }
  if (linked) {
    // struct bpf_link_info.struct_ops.map_id is at byte 16, after the fields of LINK_INFO.
    kernel.links.set(base, {
      id: base,
      info: { type: LinkType.struct_ops },
      extra: { offset: 16, value: base },
    });
  }
}

function kernelWith(...generations: Generation[]): FakeKernel {
  const kernel = new FakeKernel();
  kernel.files.set("/sys/kernel/btf/vmlinux", types.bytes);
  kernel.files.set("/sys/kernel/sched_ext/state", "enabled\n");
  for (const generation of generations) addGeneration(kernel, generation);
  return kernel;
}

describe("the active scheduler", () => {
  test("is found by its struct_ops map, with all of its maps and programs", () => {
    const kernel = kernelWith({ base: 10, state: INUSE });
    using live = openLive({ sys: kernel });
    expect(live.activeScheduler()).toEqual({
      opsName: "simple",
      objectPrefix: "scx_simp",
      mapIds: [10, 11, 12],
      progIds: [13, 14],
      state: "enabled",
    });
  });

  test("during a swap: the pinned old one stays visible, and the new one is the active scheduler", () => {
    const kernel = kernelWith({ base: 10, state: INUSE });
    using held = pinByName("scx_simp.bss", kernel);
    expect(held.info.id).toBe(11);
    // The old one exits, and everything of it is freed except the pinned map.
    for (const id of [10, 12]) kernel.maps.delete(id);
    kernel.progs.clear();
    addGeneration(kernel, { base: 20, state: INUSE });
    using live = openLive({ sys: kernel });
    const named = live.maps().filter((map) => Buffer.from(map.name).toString() === "scx_simp.bss");
    expect(named.map(({ id }) => id)).toEqual([11, 21]);
    expect(live.activeScheduler()).toMatchObject({ mapIds: [20, 21, 22], progIds: [23, 24] });
  });

  for (const [what, state] of [
    ["being torn down", TOBEFREE],
    ["ready, and its link gone", READY],
  ] as const) {
    test(`is not the old one that is ${what}, although all of it still exists`, () => {
      const kernel = kernelWith({ base: 30, state }, { base: 20, state: READY, linked: true });
      using live = openLive({ sys: kernel });
      expect(live.activeScheduler()?.mapIds).toEqual([20, 21, 22]);
    });
  }

  test("is the newest if there are two links: the older link outlived its scheduler", () => {
    const kernel = kernelWith(
      { base: 20, state: READY, linked: true },
      { base: 10, state: READY, linked: true },
    );
    using live = openLive({ sys: kernel });
    expect(live.activeScheduler()?.mapIds).toEqual([20, 21, 22]);
  });

  test("is the one that the kernel names, if it names one", () => {
    const kernel = kernelWith(
      { base: 10, state: INUSE, ops: "central", object: "scx_cent" },
      { base: 20, state: INUSE },
    );
    kernel.files.set("/sys/kernel/sched_ext/root/ops", "central\n");
    using live = openLive({ sys: kernel });
    expect(live.activeScheduler()).toMatchObject({ opsName: "central", objectPrefix: "scx_cent" });
  });

  test("is not another struct_ops: a congestion control is not a scheduler", () => {
    const kernel = kernelWith({ base: 10, state: INUSE, valueType: types.otherType, object: "tcp" });
    using live = openLive({ sys: kernel });
    expect(live.activeScheduler()).toBeUndefined();
  });

  test("is none if the kernel says that it has none", () => {
    const kernel = kernelWith({ base: 10, state: READY, linked: true });
    kernel.files.set("/sys/kernel/sched_ext/state", "disabled\n");
    using live = openLive({ sys: kernel });
    expect(live.activeScheduler()).toBeUndefined();
  });

  test("is none on a kernel without sched_ext, and on one without BTF", () => {
    const kernel = kernelWith({ base: 10, state: INUSE });
    const plain = new BtfWriter();
    plain.int("int", 4);
    kernel.files.set("/sys/kernel/btf/vmlinux", plain.bytes());
    using live = openLive({ sys: kernel });
    expect(live.activeScheduler()).toBeUndefined();
    kernel.files.delete("/sys/kernel/btf/vmlinux");
    using other = openLive({ sys: kernel });
    expect(other.activeScheduler()).toBeUndefined();
  });

  test("has the name of its ops as prefix if it has no section maps, never an empty prefix", () => {
    const kernel = kernelWith({ base: 10, state: INUSE, object: "" });
    using live = openLive({ sys: kernel });
    expect(live.activeScheduler()?.objectPrefix).toBe("simple");
  });
});
