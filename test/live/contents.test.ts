/** Contents of queues, ring buffers and local storage in the running kernel. */
import { afterAll, describe, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { close, pidfdOpen } from "../../src/ffi.ts";
import { openLive } from "../../src/live/live.ts";
import type { ContentRecord, MapContents } from "../../src/state.ts";
import { EACCES, EINVAL, ESRCH } from "../../src/uapi/errno.ts";
import { addConst, call, exit, loadMap, move, set, store64 } from "../../src/uapi/insn.ts";
import { MapType } from "../../src/uapi/names.ts";
import { kernelSkipReason, ktstr, ktstrJson } from "./bpftool.ts";
import { FakeKernel } from "./fake.ts";
import { type HeldMap, Kit, u32, u64 } from "./kit.ts";
import { addCgroup, cgroup2Root } from "./kit-links.ts";
import { loadProg, openPath, someTypes, testRun } from "./kit-progs.ts";

const NOTHING = new Uint8Array();
const NO_PREALLOC = 1;
const RINGBUF_OUTPUT = 130;
const RINGBUF_RESERVE = 131;
const RINGBUF_DISCARD = 133;

function contentsOf(map: HeldMap): MapContents {
  using live = openLive({ keep: ({ id }) => id === map.id });
  return live.contents(live.map(map.id));
}

function recordsOf(map: HeldMap): { records: readonly ContentRecord[]; complete: boolean; stopped: string } {
  const contents = contentsOf(map);
  if (contents.kind !== "records") throw new Error(`${contents.kind}, not records`);
  return { records: contents.records, complete: contents.end.complete, stopped: contents.end.stopped };
}

describe.skipIf(kernelSkipReason() !== "")("maps without keys, whose contents bpftool does not show", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());

  for (const [type, next] of [
    ["queue", 11],
    ["stack", 33],
  ] as const) {
    test(`a ${type} shows the element that a pop would take, and does not take it`, () => {
      const map = kit.map({ type, keySize: 0, valueSize: 4, maxEntries: 5 });
      expect(recordsOf(map)).toEqual({ records: [], complete: true, stopped: "" });
      for (const value of [11, 22, 33]) kit.update(map, NOTHING, u32(value));
      for (let again = 0; again < 3; again++) {
        const { records, complete, stopped } = recordsOf(map);
        expect(records).toEqual([{ value: new Uint8Array(u32(next)), note: "next" }]);
        expect(complete).toBe(false);
        expect(stopped).toContain("without removing it");
      }
      const ran = ktstr(["-j", "map", "dump", "id", String(map.id)]);
      expect([ran.status, JSON.parse(ran.out)]).toEqual([
        1,
        [{ value: [`0x${next.toString(16).padStart(2, "0")}`, "0x00", "0x00", "0x00"], note: "next" }],
      ]);
    });
  }

  test("a ring buffer shows its unread records, even if they wrap around its end", () => {
    const map = kit.map({ type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 });
    expect(recordsOf(map)).toEqual({ records: [], complete: true, stopped: "" });
    const prog = loadProg(kit, {
      type: "socket_filter",
      code: [
        ...[set(6, 0x55aa), store64(10, 6, -16), set(6, 7), store64(10, 6, -8)],
        ...[loadMap(1, map.fd), move(2, 10), addConst(2, -16), set(3, 12), set(4, 0), call(RINGBUF_OUTPUT)],
        ...[set(0, 0), exit()],
      ],
    });
    const value = new Uint8Array([...u64(0x55aa), ...u32(7)]);
    testRun(prog, 3);
    expect(recordsOf(map)).toEqual({
      records: [{ value }, { value }, { value }],
      complete: true,
      stopped: "",
    });
    // A record of 12 bytes takes 24: 170 fill the ring; the others are rejected.
    testRun(prog, 1000);
    const { records, complete } = recordsOf(map);
    expect([records.length, complete]).toEqual([170, true]);
    expect(records.every((record) => Buffer.from(record.value).equals(value))).toBe(true);
  });

  test("a ring buffer marks a discarded record", () => {
    const map = kit.map({ type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 });
    const NULL_SLOTS = 3;
    const jumpIfNull = Uint8Array.of(0x15, 0, NULL_SLOTS, 0, 0, 0, 0, 0);
    const prog = loadProg(kit, {
      type: "socket_filter",
      code: [
        ...[loadMap(1, map.fd), set(2, 8), set(3, 0), call(RINGBUF_RESERVE), jumpIfNull],
        ...[move(1, 0), set(2, 0), call(RINGBUF_DISCARD), set(0, 0), exit()],
      ],
    });
    testRun(prog, 2);
    const { records } = recordsOf(map);
    expect(records.map(({ note, value }) => [note, value.length])).toEqual([
      ["discarded", 8],
      ["discarded", 8],
    ]);
  });

  test("types whose contents cannot be listed give one error, with status 1", () => {
    const { btf, intId } = someTypes(kit);
    const typed = { btfFd: btf.fd, btfKeyTypeId: intId, btfValueTypeId: intId };
    const storage = { maxEntries: 0, flags: NO_PREALLOC, ...typed };
    for (const options of [
      { type: "bloom_filter", keySize: 0 },
      { type: "sk_storage", ...storage },
      { type: "inode_storage", ...storage },
    ] as const) {
      const map = kit.map(options);
      expect(contentsOf(map)).toMatchObject({ kind: "unreadable", why: { reason: "unsupported" } });
      const ran = ktstr(["-j", "map", "dump", "id", String(map.id)]);
      expect([ran.status, ran.out]).toEqual([1, "[]\n"]);
      expect(ran.err).toMatch(/^ktstr: warn: map \d+: incomplete: [^\n]{20,}\n$/);
    }
  });
});

describe.skipIf(kernelSkipReason() !== "")("storage maps are read owner by owner", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());
  const storage = (type: "task_storage" | "cgrp_storage"): HeldMap => {
    const { btf, intId } = someTypes(kit);
    const typed = { btfFd: btf.fd, btfKeyTypeId: intId, btfValueTypeId: intId };
    return kit.map({ type, maxEntries: 0, flags: NO_PREALLOC, ...typed });
  };

  test("of a task, with its pid and name", async () => {
    const map = storage("task_storage");
    expect(recordsOf(map)).toMatchObject({ records: [], complete: true });
    // A task may give itself any name.
    const script = 'printf "e\\033[31m" > /proc/$$/comm; echo ready; read x';
    const child = Bun.spawn(["sh", "-c", script], { stdin: "pipe", stdout: "pipe" });
    kit.defer(() => child.kill());
    await child.stdout.getReader().read();
    for (const [pid, value] of [
      [process.pid, 1],
      [child.pid, 2],
    ] as const) {
      const fd = pidfdOpen(pid, false);
      kit.defer(() => void close(fd));
      kit.update(map, u32(fd), u32(value));
    }
    const { records, complete } = recordsOf(map);
    expect(complete).toBe(true);
    const comm = Buffer.from(readFileSync("/proc/self/comm", "latin1").trimEnd());
    expect(records).toContainEqual({
      value: new Uint8Array(u32(1)),
      owner: { kind: "task", pid: process.pid, tgid: process.pid, comm: new Uint8Array(comm) },
    });
    expect(records).toHaveLength(2);
    expect(ktstrJson("map", "dump", "id", String(map.id))).toContainEqual({
      value: ["0x02", "0x00", "0x00", "0x00"],
      formatted: { value: 2 },
      owner: { kind: "task", pid: child.pid, tgid: child.pid, comm: "e\\x1b[31m" },
    });
  });

  test.skipIf(cgroup2Root() === undefined)("of a cgroup, with its id and path, for any name", () => {
    const map = storage("cgrp_storage");
    // Not UTF-8, with control characters. The kernel itself refuses a line break.
    const name = Buffer.concat([Buffer.from(`ktstr-${process.pid}-\u001b[31mred`), Buffer.of(0xff)]);
    const path = addCgroup(kit, name);
    kit.update(map, u32(openPath(kit, path)), u32(42));
    const { records, complete } = recordsOf(map);
    expect(complete).toBe(true);
    const owner = {
      kind: "cgroup",
      id: statSync(path, { bigint: true }).ino,
      path: Buffer.from(`/${name.toString("latin1")}`, "latin1"),
    };
    expect(records).toMatchObject([{ owner }]);
    expect([...(records[0]?.value ?? [])]).toEqual([42, 0, 0, 0]);
    const text = ktstr(["map", "dump", "id", String(map.id)]);
    expect(text.out).toContain(`/ktstr-${process.pid}-\\x1b[31mred\\xff`);
    expect(text.out).not.toContain("\u001b");
    const json = ktstr(["-j", "map", "dump", "id", String(map.id)]);
    expect(json.out).not.toContain("\u001b");
  });
});

describe("storage on a kernel that refuses look-ups", () => {
  function tasks(kernel: FakeKernel): MapContents {
    kernel.addMap({ id: 1, type: MapType.task_storage, valueSize: 4 });
    kernel.directories.set("/proc", ["1", "20", "self", "sys"]);
    kernel.directories.set("/proc/1/task", ["1"]);
    kernel.directories.set("/proc/20/task", ["20", "21"]);
    const [map] = kernel.maps.values();
    for (const pid of [1, 20, 21]) map?.put(200_000 + pid);
    using live = openLive({ sys: kernel });
    const [info] = live.maps();
    return live.contents(info!);
  }
  const pids = (contents: MapContents): unknown[] =>
    contents.kind === "records"
      ? contents.records.map(({ owner }) => owner?.kind === "task" && owner.pid)
      : [];

  test("threads are tasks of their own", () => {
    expect(pids(tasks(new FakeKernel()))).toEqual([1, 20, 21]);
  });

  test("before 6.9 threads cannot be looked up: incomplete, with the reason", () => {
    const kernel = new FakeKernel();
    kernel.pidErrno = (_, thread) => (thread ? EINVAL : 0);
    const contents = tasks(kernel);
    expect(pids(contents)).toEqual([1, 20]);
    expect(contents).toMatchObject({
      end: { complete: false, skipped: new Map([["threads cannot be looked up before Linux 6.9", 1]]) },
    });
  });

  test("a task that exits during the walk is skipped without a warning", () => {
    const kernel = new FakeKernel();
    kernel.pidErrno = (pid) => (pid === 20 ? ESRCH : 0);
    const contents = tasks(kernel);
    expect(pids(contents)).toEqual([1, 21]);
    expect(contents).toMatchObject({ end: { complete: true } });
  });

  test("a look-up that is refused is counted", () => {
    const kernel = new FakeKernel();
    kernel.fail("BPF_MAP_LOOKUP_ELEM", EACCES, { times: 1 });
    const contents = tasks(kernel);
    expect(pids(contents)).toEqual([20, 21]);
    expect(contents).toMatchObject({ end: { complete: false } });
  });

  test("cgroups are found at the mount point of cgroup2, and without it the answer says so", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 1, type: MapType.cgrp_storage, valueSize: 4 }).put(300_002);
    kernel.directories.set("/a b", ["child"]);
    kernel.directories.set("/a b/child", []);
    using live = openLive({ sys: kernel });
    const [info] = live.maps();
    expect(live.contents(info!)).toMatchObject({ kind: "unreadable", why: { reason: "unsupported" } });
    kernel.files.set("/proc/self/mounts", "cgroup /c cgroup rw 0 0\nx /a\\040b cgroup2 rw 0 0\n");
    expect(live.contents(info!)).toMatchObject({
      kind: "records",
      records: [{ owner: { kind: "cgroup", id: 2n, path: Buffer.from("/child") } }],
      end: { complete: true },
    });
  });
});
