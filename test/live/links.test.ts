/** Links of the running kernel, compared with bpftool for every type. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { addressOf, type PinnedBytes } from "../../src/ffi.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { run } from "../btf/support/live.ts";
import {
  bpftoolJson,
  expectSame,
  kernelSkipReason,
  ktstr,
  ktstrJson,
  missing,
  only,
  parseExact,
  spawn,
} from "./bpftool.ts";
import { type Held, Kit, text, u32, u64 } from "./kit.ts";
import {
  addCgroup,
  addCongestionControl,
  addDevice,
  cgroup2Root,
  createLink,
  linkPerfEvent,
  openRawTracepoint,
} from "./kit-links.ts";
import {
  elementIteratorRefusal,
  kernelFunction,
  kernelType,
  loadProg,
  openPath,
  returns,
  trampolineRefusal,
} from "./kit-progs.ts";

const show = (link: Held): unknown => ktstrJson("link", "show", "id", String(link.id));

describe.skipIf(kernelSkipReason() !== "")("link show has every key and value of bpftool's", () => {
  const kit = new Kit();
  const made: Held[] = [];
  const places = new Map<number, string>();
  /** `place`: text of the place where this test attached it. */
  const kept = (link: Held, place: string): Held => {
    made.push(link);
    places.set(link.id, place);
    return link;
  };
  afterAll(() => kit[Symbol.dispose]());

  test("raw_tracepoint", () => {
    const prog = loadProg(kit, { type: "raw_tracepoint" });
    const link = kept(openRawTracepoint(kit, prog, "sched_process_exit"), "at tracepoint sched_process_exit");
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({
      type: "raw_tracepoint",
      prog_id: prog.id,
      tp_name: "sched_process_exit",
    });
  });

  test("raw_tracepoint, of a program with types", () => {
    const attachBtfId = kernelType("btf_trace_sched_process_exit", BTF_KIND.TYPEDEF);
    const prog = loadProg(kit, { type: "tracing", attachType: "trace_raw_tp", attachBtfId });
    const link = kept(openRawTracepoint(kit, prog), "at tracepoint sched_process_exit");
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({ type: "raw_tracepoint", tp_name: "sched_process_exit" });
  });

  test.skipIf(kernelSkipReason() !== "" || trampolineRefusal() !== "")("tracing", () => {
    const attachBtfId = kernelFunction("do_nanosleep");
    const prog = loadProg(kit, { type: "tracing", attachType: "trace_fentry", attachBtfId });
    const link = kept(openRawTracepoint(kit, prog), "at the entry of function do_nanosleep");
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({ type: "tracing", prog_type: "tracing", attach_type: "trace_fentry" });
  });

  test("iter over tasks, over one task", () => {
    const tasks = loadProg(kit, {
      type: "tracing",
      attachType: "trace_iter",
      attachBtfId: kernelFunction("bpf_iter_task"),
    });
    const all = kept(createLink(kit, tasks, { attach: "trace_iter" }), "over task");
    expectSame("link", all.id);
    expect(show(all)).toMatchObject({ type: "iter", target_name: "task" });
    const one = kept(
      createLink(kit, tasks, { attach: "trace_iter", arm: pointing(u32(process.pid, 0, 0), 12) }),
      `over task of thread ${process.pid}`,
    );
    expectSame("link", one.id);
    expect(show(one)).toMatchObject({ target_name: "task", tid: process.pid });
    const process_ = kept(
      createLink(kit, tasks, { attach: "trace_iter", arm: pointing(u32(0, process.pid, 0), 12) }),
      `over task of process ${process.pid}`,
    );
    expectSame("link", process_.id);
    expect(show(process_)).toMatchObject({ target_name: "task", pid: process.pid });
  });

  test.skipIf(kernelSkipReason() !== "" || elementIteratorRefusal() !== "")(
    "iter over the elements of a map",
    () => {
      const map = kit.map({ type: "hash" });
      const attachBtfId = kernelFunction("bpf_iter_bpf_map_elem");
      const elements = loadProg(kit, { type: "tracing", attachType: "trace_iter", attachBtfId });
      const over = kept(
        createLink(kit, elements, { attach: "trace_iter", arm: pointing(u32(map.fd), 4) }),
        `over bpf_map_elem of map ${map.id}`,
      );
      expectSame("link", over.id);
      expect(show(over)).toMatchObject({ target_name: "bpf_map_elem", map_id: map.id });
    },
  );

  test("netns", () => {
    const prog = loadProg(kit, { type: "sk_lookup", attachType: "sk_lookup", code: returns(1) });
    const target = openPath(kit, "/proc/self/ns/net");
    const link = kept(
      createLink(kit, prog, { attach: "sk_lookup", target }),
      `in network namespace ${statSync("/proc/self/ns/net").ino}, sk_lookup`,
    );
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({ type: "netns", attach_type: "sk_lookup" });
  });

  describe("on a device", () => {
    let device = { name: "", ifindex: 0 };
    beforeAll(() => {
      device = addDevice(kit);
    });

    test("xdp", () => {
      const prog = loadProg(kit, { type: "xdp", code: returns(2) });
      const link = kept(
        createLink(kit, prog, { attach: "xdp", target: device.ifindex }),
        `on interface ${device.name}`,
      );
      expectSame("link", link.id);
      expect(show(link)).toMatchObject({ type: "xdp", ifindex: device.ifindex, devname: device.name });
    });

    test("xdp, seen from another network namespace: names of /sys are not used", () => {
      const prog = loadProg(kit, { type: "xdp", code: returns(2) });
      const other = addDevice(kit);
      const link = kept(
        createLink(kit, prog, { attach: "xdp", target: other.ifindex }),
        `on interface ${other.name}`,
      );
      const words = ["-j", "link", "show", "id", String(link.id)];
      const theirs = parseExact(spawn(["unshare", "-n", "bpftool", ...words]).out);
      expect(theirs).toMatchObject({ devname: "(unknown)" });
      const mine = parseExact(ktstr(words, { under: ["unshare", "-n"] }).out);
      expect(missing(mine, theirs)).toEqual([]);
    });

    test("tcx", () => {
      const prog = loadProg(kit, { type: "sched_cls", attachType: "tcx_ingress" });
      const link = kept(
        createLink(kit, prog, { attach: "tcx_ingress", target: device.ifindex }),
        `on interface ${device.name}, ingress`,
      );
      expectSame("link", link.id);
      expect(show(link)).toMatchObject({ type: "tcx", ifindex: device.ifindex, attach_type: "tcx_ingress" });
    });
  });

  test("netfilter", () => {
    const prog = loadProg(kit, { type: "netfilter", attachType: "netfilter", code: returns(1) });
    const arm = u32(2, 4, 0, 0); // NFPROTO_IPV4, NF_INET_POST_ROUTING
    new DataView(arm.buffer).setInt32(8, -128, true);
    const link = kept(
      createLink(kit, prog, { attach: "netfilter", arm }),
      "at netfilter hook ip postrouting, priority -128",
    );
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({ type: "netfilter", pf: 2, hook: 4, prio: -128, flags: 0 });
  });

  test.skipIf(cgroup2Root() === undefined)("cgroup", () => {
    const prog = loadProg(kit, { type: "cgroup_skb", code: returns(1) });
    const target = openPath(kit, addCgroup(kit));
    const link = kept(
      createLink(kit, prog, { attach: "cgroup_inet_egress", target }),
      `in cgroup /ktstr-test-${process.pid}, cgroup_inet_egress`,
    );
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({ type: "cgroup", attach_type: "cgroup_inet_egress" });
  });

  test("struct_ops", () => {
    const { map } = addCongestionControl(kit, `kt${process.pid}`);
    const link = kept(createLink(kit, map, { attach: "struct_ops" }), `as the operations of map ${map.id}`);
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({ type: "struct_ops", map_id: map.id, prog_id: 0 });
  });

  test("sockmap", () => {
    const prog = loadProg(kit, { type: "sk_skb", attachType: "sk_skb_verdict", code: returns(1) });
    const map = kit.map({ type: "sockmap" });
    const link = kept(
      createLink(kit, prog, { attach: "sk_skb_verdict", target: map.fd }),
      `on the sockets of map ${map.id}`,
    );
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({ type: "sockmap", map_id: map.id, attach_type: "sk_skb_verdict" });
  });

  test("uprobe_multi, with the keys that bpftool 7.1 does not have", () => {
    const binary = `${kit.directory}/copy-of-true`;
    copyFileSync("/bin/true", binary);
    const prog = loadProg(kit, { type: "kprobe", attachType: "trace_uprobe_multi" });
    const path = text(binary);
    const offsets = u64(0x2000, 0x2010);
    const cookies = u64(7n, 2n ** 60n + 1n);
    const arm = u64(addressOf(path), addressOf(offsets), 0, addressOf(cookies), 2, 0);
    const link = kept(
      createLink(kit, prog, { attach: "trace_uprobe_multi", arm }),
      `at 2 places of ${binary}: +0x2000, +0x2010`,
    );
    expectSame("link", link.id);
    expect(show(link)).toMatchObject({
      type: "uprobe_multi",
      path: binary,
      func_cnt: 2,
      retprobe: false,
      pid: 0,
      funcs: [
        { offset: 0x2000, ref_ctr_offset: 0, cookie: 7 },
        { offset: 0x2010, ref_ctr_offset: 0, cookie: "1152921504606846977" },
      ],
    });
  });

  test("text and inspect have the place where each is attached", () => {
    const listed = ktstr(["link", "show"]).out;
    const inspected = ktstr(["inspect", "--limit", "1"]).out;
    for (const [id, place] of places) {
      expect(listed).toMatch(new RegExp(`^${id}: .*\\n\\t${RegExp.escape(place)}`, "m"));
      expect(inspected).toMatch(new RegExp(`^ *${id}  .*  ${RegExp.escape(place)}`, "m"));
    }
  });

  test("all of them in one listing, in the order of their ids", () => {
    const ids = made.map(({ id }) => id);
    const mine = only(ktstrJson("link", "show"), ids);
    expect(mine).toHaveLength(ids.length);
    expect(missing(mine, only(bpftoolJson("link", "show"), ids))).toEqual([]);
  });
});

/** `union bpf_iter_link_info *` and its size. */
function pointing(info: PinnedBytes, size: number): Uint8Array {
  keep.push(info);
  const arm = u64(addressOf(info), size);
  return arm;
}
const keep: PinnedBytes[] = [];

const noPerl = kernelSkipReason("perl") !== "" || process.arch !== "x64";
describe.skipIf(noPerl)("links on perf events", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());
  const PERF_TYPE_SOFTWARE = 1;
  const PERF_TYPE_TRACEPOINT = 2;

  function showPinned(path: string): unknown {
    const mine = ktstrJson("link", "show", "pinned", path);
    const theirs = bpftoolJson("link", "show", "pinned", path);
    expect(missing(mine, theirs)).toEqual([]);
    return mine;
  }

  test("a software event", () => {
    const prog = loadProg(kit, { type: "perf_event" });
    const path = linkPerfEvent(kit, prog, { type: PERF_TYPE_SOFTWARE, config: 3, period: 1_000_000 }, 5);
    expect(showPinned(path)).toMatchObject({
      type: "perf_event",
      event_type: "software",
      event_config: "context-switches",
      cookie: 5,
    });
  });

  test("a tracepoint", () => {
    const tracefs = `${kit.directory}/tracing`;
    mkdirSync(tracefs);
    run("mount", "-t", "tracefs", "tracefs", tracefs);
    const config = Number(readFileSync(`${tracefs}/events/syscalls/sys_enter_acct/id`, "latin1"));
    run("umount", tracefs);
    const prog = loadProg(kit, { type: "tracepoint" });
    const path = linkPerfEvent(kit, prog, { type: PERF_TYPE_TRACEPOINT, config });
    expect(showPinned(path)).toMatchObject({ type: "perf_event", tracepoint: "sys_enter_acct" });
  });

  test("a uprobe in a file with any name, which is escaped in text and complete in JSON", () => {
    const type = Number(readFileSync("/sys/bus/event_source/devices/uprobe/type", "latin1"));
    const binary = `${kit.directory}/evil\u001b[31m-ü\n`;
    copyFileSync("/bin/true", binary);
    const prog = loadProg(kit, { type: "kprobe" });
    const path = linkPerfEvent(kit, prog, { type, config: 0, path: binary, offset: 0x2000 });
    expect(showPinned(path)).toMatchObject({
      type: "perf_event",
      retprobe: false,
      file: binary,
      offset: 0x2000,
    });
    const returning = linkPerfEvent(kit, prog, { type, config: 1, path: binary, offset: 0x2000 });
    expect(showPinned(returning)).toMatchObject({ retprobe: true, file: binary });
  });
});
