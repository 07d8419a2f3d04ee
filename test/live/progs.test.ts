/** `prog show` of the running kernel, compared with bpftool for every type of program. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { openLive } from "../../src/live/live.ts";
import { enableStats } from "../../src/live/stats.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { move, set, skipIfAtMost } from "../../src/uapi/insn.ts";
import { bpftoolJson, expectSame, kernelSkipReason, ktstrJson, missing, only } from "./bpftool.ts";
import { type Held, Kit } from "./kit.ts";
import {
  kernelFunction,
  kernelType,
  loadProg,
  type ProgOptions,
  returns,
  someTypes,
  testRun,
  trampolineRefusal,
  usesMaps,
} from "./kit-progs.ts";

const SLEEPABLE = 0x10;

/** One program of each type that depends on nothing else. `return 0` is valid in every one. */
const PLAIN: readonly ProgOptions[] = [
  { type: "socket_filter" },
  { type: "kprobe" },
  { type: "sched_cls" },
  { type: "sched_act" },
  { type: "tracepoint" },
  { type: "xdp" },
  { type: "perf_event" },
  { type: "cgroup_skb" },
  { type: "cgroup_sock" },
  { type: "lwt_in" },
  { type: "lwt_out" },
  { type: "lwt_xmit" },
  { type: "sock_ops" },
  { type: "sk_skb" },
  { type: "cgroup_device" },
  { type: "sk_msg" },
  { type: "raw_tracepoint" },
  { type: "cgroup_sock_addr", attachType: "cgroup_inet4_bind" },
  { type: "lwt_seg6local" },
  { type: "sk_reuseport", attachType: "sk_reuseport_select" },
  { type: "flow_dissector" },
  { type: "cgroup_sysctl" },
  { type: "raw_tracepoint_writable" },
  { type: "cgroup_sockopt", attachType: "cgroup_getsockopt" },
  { type: "sk_lookup", attachType: "sk_lookup" },
  { type: "syscall", flags: SLEEPABLE },
  { type: "netfilter", attachType: "netfilter" },
];

/** Programs that hook the kernel by BTF. */
function hooked(): Record<string, ProgOptions> {
  const congestion = kernelType("tcp_congestion_ops", BTF_KIND.STRUCT);
  const switched = kernelType("btf_trace_sched_switch", BTF_KIND.TYPEDEF);
  return {
    "tracing raw_tp": { type: "tracing", attachType: "trace_raw_tp", attachBtfId: switched },
    "tracing iter": {
      type: "tracing",
      attachType: "trace_iter",
      attachBtfId: kernelFunction("bpf_iter_task"),
    },
    struct_ops: { type: "struct_ops", attachBtfId: congestion, expected: 0 },
  };
}

/** Programs that need a trampoline, which a kernel may refuse (EPERM if its text is sealed). */
function trampolines(target: Held, functionId: number): Record<string, ProgOptions> {
  const sleeper = kernelFunction("do_nanosleep");
  const opener = kernelFunction("bpf_lsm_file_open");
  return {
    "tracing fentry": { type: "tracing", attachType: "trace_fentry", attachBtfId: sleeper },
    lsm: { type: "lsm", attachType: "lsm_mac", attachBtfId: opener },
    ext: { type: "ext", attachProgFd: target.fd, attachBtfId: functionId, code: returns(2) },
  };
}

describe.skipIf(kernelSkipReason() !== "")("prog show has every key and value of bpftool's", () => {
  const kit = new Kit();
  const made = new Map<string, Held>();
  const load = (name: string, options: ProgOptions): Held =>
    loadProg(kit, { name: name.replace(/\W/g, "_").slice(0, 15), ...options });

  beforeAll(() => {
    for (const options of PLAIN) made.set(options.type, load(options.type, options));
    for (const [name, options] of Object.entries(hooked())) made.set(name, load(name, options));
    const array = kit.map({ type: "array", valueSize: 8 });
    const hash = kit.map({ type: "hash" });
    made.set(
      "with maps",
      loadProg(kit, { type: "socket_filter", name: "with_maps", code: usesMaps(hash, array) }),
    );
    made.set("nameless", loadProg(kit, { type: "xdp" }));
    made.set("not GPL", loadProg(kit, { type: "xdp", name: "a.b", license: "Proprietary" }));
    const { btf, functionId } = someTypes(kit, "a_function_whose_name_is_longer_than_fifteen");
    const typed = { type: "xdp", name: "a_function_whos", btfFd: btf.fd, funcTypeId: functionId } as const;
    const target = loadProg(kit, { ...typed, code: returns(2) });
    made.set("with BTF", target);
    if (trampolineRefusal() !== "") return;
    for (const [name, options] of Object.entries(trampolines(target, functionId)))
      made.set(name, load(name, options));
  });
  afterAll(() => kit[Symbol.dispose]());

  for (const name of [
    ...PLAIN.map(({ type }) => type),
    ...["tracing raw_tp", "tracing iter", "struct_ops", "with maps", "nameless", "not GPL", "with BTF"],
  ]) {
    test(name, () => expectSame("prog", made.get(name)?.id ?? 0));
  }

  for (const name of ["tracing fentry", "lsm", "ext"])
    test.skipIf(kernelSkipReason() !== "" || trampolineRefusal() !== "")(name, () =>
      expectSame("prog", made.get(name)!.id),
    );

  test("all of them in one listing, in the order of their ids", () => {
    const ids = [...made.values()].map(({ id }) => id);
    const mine = only(ktstrJson("prog", "show"), ids);
    expect(mine).toHaveLength(ids.length);
    expect(missing(mine, only(bpftoolJson("prog", "show"), ids), { off: { loaded_at: 1 } })).toEqual([]);
  });

  test("by tag: every program with the tag, as an array if there are several", () => {
    const one = ktstrJson("prog", "show", "id", String(made.get("with maps")?.id)) as { tag: string };
    const mine = ktstrJson("prog", "show", "tag", one.tag);
    expect(missing(mine, bpftoolJson("prog", "show", "tag", one.tag), { off: { loaded_at: 1 } })).toEqual([]);
    const id = made.get("xdp")?.id;
    const common = ktstrJson("prog", "show", "id", String(id)) as { tag: string };
    const several = ktstrJson("prog", "show", "tag", common.tag) as { id: number }[];
    expect(several.length).toBeGreaterThan(10);
    expect(several.map((prog) => prog.id)).toContain(id ?? 0);
  });

  test("by name: the kernel's fifteen bytes, and the full name of the function", () => {
    const id = made.get("with BTF")?.id;
    for (const name of ["a_function_whos", "a_function_whose_name_is_longer_than_fifteen"]) {
      expect(ktstrJson("prog", "show", "name", name)).toMatchObject({ id });
    }
    expect(ktstrJson("prog", "show", "name", "a_function_whos")).toMatchObject({
      name: "a_function_whose_name_is_longer_than_fifteen",
    });
  });

  test("the verifier's instruction count is added to bpftool's keys", () => {
    using live = openLive();
    const prog = live.progs({ type: 1 }).find(({ id }) => id === made.get("with maps")?.id);
    expect(prog?.verifiedInsns).toBe(4); // two loads of 16 bytes, a move, an exit
  });
});

describe.skipIf(kernelSkipReason() !== "")("run-time statistics", () => {
  const busy = (): Uint8Array[] => [move(6, 1), set(7, 5), skipIfAtMost(7, 3, 0), ...returns(0)];

  test("count every run while they are enabled, and none after", () => {
    using kit = new Kit();
    const prog = loadProg(kit, { type: "socket_filter", name: "counted", code: busy() });
    const count = (): bigint => {
      using live = openLive();
      const stats = live.progs().find(({ id }) => id === prog.id)?.stats;
      if (stats?.ok !== true) throw new Error("no statistics");
      return stats.value.count;
    };
    // If another process on this machine has enabled them, runs count anyway, and nothing can be tested.
    testRun(prog, 10);
    const strangers = count();
    {
      using _on = enableStats();
      testRun(prog, 1000);
      expect(count() - strangers).toBe(1000n);
      expectSame("prog", prog.id);
      expect(ktstrJson("prog", "show", "id", String(prog.id))).toMatchObject({
        run_cnt: 1000 + Number(strangers),
      });
    }
    testRun(prog, 10);
    expect(count() - strangers).toBe(strangers === 0n ? 1000n : 1010n);
  });
});
