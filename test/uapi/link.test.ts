/** Members of `struct bpf_link_info`, compared with the kernel's BTF. */
import { describe, expect, test } from "bun:test";
import { LINK_INFO } from "../../src/uapi/bpf.ts";
import {
  CGROUP_ITER_ORDERS,
  ITER,
  KPROBE_MULTI,
  LINK_ARMS,
  type LinkField,
  MULTI_RETURN,
  PERF_EVENT_ARMS,
  PERF_EVENT_PROBE_TYPES,
  PERF_EVENT_RETURN_TYPES,
  PERF_EVENT_TYPE_OFFSET,
  UPROBE_MULTI,
} from "../../src/uapi/link.ts";
import { LINK_TYPES } from "../../src/uapi/names.ts";
import { liveSkipReason } from "../btf/support/live.ts";
import { kernelConstant, kernelEnum, kernelField } from "./support.ts";

const kernelDescribe = describe.skipIf(liveSkipReason() !== "");
const STRUCT = "bpf_link_info";

/** bpftool's keys that differ from the name of the C member. */
const C_NAMES: Readonly<Record<string, string>> = {
  "netfilter.hook": "hooknum",
  "netfilter.prio": "priority",
  "perf_event.uprobe.file": "file_name",
  "perf_event.kprobe.func": "func_name",
  "perf_event.tracepoint.tracepoint": "tp_name",
  "perf_event.event.event_config": "config",
  "perf_event.event.event_type": "type",
};

/** The u32 member with the length of a string. */
const LENGTHS: Readonly<Record<string, string>> = {
  raw_tracepoint: "tp_name_len",
  iter: "target_name_len",
  "perf_event.uprobe": "name_len",
  "perf_event.kprobe": "name_len",
  "perf_event.tracepoint": "name_len",
};

const SIZES: Readonly<Record<LinkField["kind"], number>> = {
  u32: 4,
  i32: 4,
  u64: 8,
  attach_type: 4,
  ifindex: 4,
  string: 8,
};

function checkArm(path: string, arm: readonly LinkField[]): void {
  for (const field of arm) {
    const member = `${path}.${C_NAMES[`${path}.${field.key}`] ?? field.key}`;
    expect({ member, at: kernelField(STRUCT, member) }).toEqual({
      member,
      at: { offset: field.offset, size: SIZES[field.kind] },
    });
    expect(field.offset + SIZES[field.kind]).toBeLessThanOrEqual(LINK_INFO.size);
    if (field.kind !== "string") continue;
    const length = `${path}.${LENGTHS[path]}`;
    expect(kernelField(STRUCT, length)).toEqual({ offset: field.lengthOffset ?? -1, size: 4 });
  }
}

kernelDescribe("the arms of struct bpf_link_info as this kernel has them", () => {
  for (const [type, arm] of Object.entries(LINK_ARMS)) {
    const name = LINK_TYPES[Number(type)] ?? type;
    test(name, () => checkArm(name, arm));
  }

  const perfTypes = {
    1: ["uprobe", "BPF_PERF_EVENT_UPROBE"],
    2: ["uprobe", "BPF_PERF_EVENT_URETPROBE"],
    3: ["kprobe", "BPF_PERF_EVENT_KPROBE"],
    4: ["kprobe", "BPF_PERF_EVENT_KRETPROBE"],
    5: ["tracepoint", "BPF_PERF_EVENT_TRACEPOINT"],
    6: ["event", "BPF_PERF_EVENT_EVENT"],
  } as const;
  for (const [type, [arm, constant]] of Object.entries(perfTypes)) {
    test(`perf_event of type ${constant}`, () => {
      expect(kernelEnum("bpf_perf_event_type").get(constant)).toBe(Number(type));
      checkArm(`perf_event.${arm}`, PERF_EVENT_ARMS[Number(type)] ?? []);
    });
  }

  test("perf_event has six kinds, selected by the u32 before them", () => {
    expect(Object.keys(PERF_EVENT_ARMS)).toEqual(Object.keys(perfTypes));
    expect(kernelField(STRUCT, "perf_event.type")).toEqual({ offset: PERF_EVENT_TYPE_OFFSET, size: 4 });
    expect(PERF_EVENT_RETURN_TYPES).toEqual([2, 4]);
    expect(PERF_EVENT_PROBE_TYPES).toEqual([1, 2, 3, 4]);
  });

  test("iter has two unions", () => {
    const at = (member: string): number | undefined => kernelField(STRUCT, `iter.${member}`)?.offset;
    expect<unknown>(ITER).toEqual({
      map_id: at("map.map_id"),
      cgroup_id: at("cgroup.cgroup_id"),
      order: at("cgroup.order"),
      tid: at("task.tid"),
      pid: at("task.pid"),
    });
    const orders = kernelEnum("bpf_cgroup_iter_order");
    CGROUP_ITER_ORDERS.forEach((order, value) => {
      const suffix = order.replace("order_", "").toUpperCase();
      const constant =
        order === "order_unspec" ? "BPF_CGROUP_ITER_ORDER_UNSPEC" : `BPF_CGROUP_ITER_${suffix}`;
      expect([constant, orders.get(constant)]).toEqual([constant, value]);
    });
  });

  test("kprobe_multi and uprobe_multi", () => {
    for (const [arm, members] of Object.entries({ kprobe_multi: KPROBE_MULTI, uprobe_multi: UPROBE_MULTI })) {
      for (const [member, offset] of Object.entries(members)) {
        expect([member, kernelField(STRUCT, `${arm}.${member}`)?.offset]).toEqual([member, offset]);
      }
    }
    expect(kernelConstant("BPF_F_KPROBE_MULTI_RETURN")).toBe(MULTI_RETURN);
    expect(kernelConstant("BPF_F_UPROBE_MULTI_RETURN")).toBe(MULTI_RETURN);
  });

  test("every member that the kernel has is known", () => {
    const known = new Set<string>(
      [...Object.keys(LINK_ARMS).map((type) => LINK_TYPES[Number(type)]), "perf_event"].map(String),
    );
    for (const name of ["kprobe_multi", "uprobe_multi"]) known.add(name);
    for (const name of LINK_TYPES) {
      if (kernelField(STRUCT, name) !== undefined) expect([...known]).toContain(name);
    }
  });
});
