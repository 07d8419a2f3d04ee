/** Reads leave no descriptor open, even if they fail or are abandoned. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type LiveState, openLive } from "../../src/live/live.ts";
import { openPinned } from "../../src/live/pinned.ts";
import { enableStats } from "../../src/live/stats.ts";
import { realSys } from "../../src/live/sys.ts";
import type { MapInfo } from "../../src/state.ts";
import { EAGAIN, EPERM } from "../../src/uapi/errno.ts";
import type { MapTypeName } from "../../src/uapi/names.ts";
import { kernelSkipReason } from "./bpftool.ts";
import { fdCount, type HeldMap, Kit } from "./kit.ts";
import { addCongestionControl, createLink, openRawTracepoint } from "./kit-links.ts";
import { loadProg, someTypes } from "./kit-progs.ts";

describe.skipIf(kernelSkipReason() !== "")("no descriptor is left open", () => {
  const kit = new Kit();
  const maps = new Map<MapTypeName, HeldMap>();
  const held = (type: MapTypeName): number => maps.get(type)?.id ?? 0;

  beforeAll(() => {
    const { btf, intId, functionId } = someTypes(kit, "a_function_with_a_long_name");
    const typed = { maxEntries: 0, flags: 1, btfFd: btf.fd, btfKeyTypeId: intId, btfValueTypeId: intId };
    for (const options of [
      { type: "hash" },
      { type: "array" },
      { type: "percpu_hash" },
      { type: "percpu_array" },
      { type: "lpm_trie", keySize: 8, flags: 1 },
      { type: "queue", keySize: 0 },
      { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 },
      { type: "bloom_filter", keySize: 0 },
      { type: "arena", keySize: 0, valueSize: 0, maxEntries: 4, flags: 0x400 },
      { type: "task_storage", ...typed },
      { type: "cgrp_storage", ...typed },
      { type: "perf_event_array" },
    ] as const) {
      maps.set(options.type, kit.map(options));
    }
    maps.set("struct_ops", addCongestionControl(kit, `ktf${process.pid}`).map);
    const prog = loadProg(kit, {
      type: "raw_tracepoint",
      name: "a_function_with",
      btfFd: btf.fd,
      funcTypeId: functionId,
    });
    openRawTracepoint(kit, prog, "xdp_exception");
    createLink(kit, maps.get("struct_ops") ?? prog, { attach: "struct_ops" });
    using live = openLive({ keep: () => false });
    live.maps(); // the first call keeps a file of /proc open
  });
  afterAll(() => kit[Symbol.dispose]());

  const only = (id: number) => ({ keep: (map: MapInfo): boolean => map.id === id });

  const questions: Record<string, (live: LiveState) => unknown> = {
    maps: (live) => live.maps(),
    progs: (live) => live.progs(),
    links: (live) => live.links(),
    btfs: (live) => live.btfs(),
    "btf of every object": (live) => live.btfs().map(({ id }) => live.btf(id)),
    kernel: (live) => live.kernel(),
    kernelBtf: (live) => live.kernelBtf(),
    activeScheduler: (live) => live.activeScheduler(),
    "contents of every map": (live) =>
      live.maps().map((map) => {
        const contents = live.contents(map);
        if (contents.kind === "entries") while (contents.cursor.next());
        return contents;
      }),
    readValue: (live) => live.readValue(live.map(held("array")), 0, 4),
    "readValue of struct_ops": (live) => live.readValue(live.map(held("struct_ops")), 0, 4),
    readArray: (live) => live.readArray(live.map(held("array")), 1),
    percpuArray: (live) => live.percpuArray(live.map(held("percpu_array")), 1),
    hashEntries: (live) => live.hashEntries(live.map(held("hash"))),
    percpuHashEntries: (live) => live.percpuHashEntries(live.map(held("percpu_hash"))),
    arenaPages: (live) => live.arenaPages(live.map(held("arena"))),
    lookup: (live) => live.lookup(live.map(held("hash")), new Uint8Array(4)),
    programBtf: (live) => live.maps().map((map) => live.programBtf(map)),
    "a map that is not there": (live) => {
      expect(() => live.map(2 ** 31)).toThrow("ENOENT");
      return live.maps();
    },
    "the same map, again and again": (live) => [1, 2, 3].map(() => live.map(held("hash"))),
  };
  for (const [name, ask] of Object.entries(questions)) {
    test(`by ${name}`, () => {
      const before = fdCount();
      {
        using live = openLive();
        expect(ask(live)).not.toBe(null);
      }
      expect(fdCount()).toBe(before);
    });
  }

  test("by a cursor that is abandoned in the middle", () => {
    const before = fdCount();
    {
      using live = openLive(only(held("array")));
      const contents = live.contents(live.map(held("array")));
      if (contents.kind === "entries") expect(contents.cursor.next()).toBe(true);
      expect(fdCount()).toBe(before + 1);
    }
    expect(fdCount()).toBe(before);
  });

  test("by an arena whose reader program cannot run, or has no buffer", () => {
    const { id } = kit.map({
      type: "arena",
      keySize: 0,
      valueSize: 0,
      maxEntries: 4,
      flags: 0x400,
      mapExtra: 2 ** 44, // with a known address, so that a program can be loaded with it
    });
    for (const [refused, sentence] of [
      ["BPF_PROG_TEST_RUN", "BPF_PROG_TEST_RUN the program that reads kernel memory: EPERM"],
      ["mmap", "mmap the buffer for reading kernel memory: EPERM"],
    ] as const) {
      const before = fdCount();
      {
        using live = openLive({
          keep: () => false,
          sys: {
            ...realSys,
            bpf: (command, attr) => (command === refused ? -EPERM : realSys.bpf(command, attr)),
            mmap: (options) => (refused === "mmap" ? -EPERM : realSys.mmap(options)),
          },
        });
        const pages = live.arenaPages(live.map(id));
        expect(pages.ok ? "" : pages.why.detail).toContain(sentence);
      }
      expect(fdCount()).toBe(before);
    }
    using live = openLive({ keep: () => false });
    expect(live.arenaPages(live.map(id))).toMatchObject({ ok: true, value: { pages: [] } });
  });

  test("by an arena whose reader program was interrupted in the verifier: it is loaded again, a few times", () => {
    const { id } = kit.map({ type: "arena", keySize: 0, valueSize: 0, maxEntries: 4, flags: 0x400 });
    for (const [interruptions, ok] of [
      [4, true],
      [5, false],
    ] as const) {
      let loads = 0;
      const before = fdCount();
      {
        using live = openLive({
          keep: () => false,
          sys: {
            ...realSys,
            bpf: (command, attr) =>
              command === "BPF_PROG_LOAD" && loads++ < interruptions ? -EAGAIN : realSys.bpf(command, attr),
          },
        });
        expect(live.arenaPages(live.map(id)).ok).toBe(ok);
      }
      expect([fdCount(), loads]).toEqual([before, 5]);
    }
  });

  test("by pinned paths of any type", () => {
    const path = kit.pin(maps.get("hash") as HeldMap, "hash");
    const before = fdCount();
    {
      using fd = openPinned(path, "map");
      expect(fd.number).toBeGreaterThan(0);
      expect(fdCount()).toBe(before + 1);
    }
    expect(() => openPinned(path, "program")).toThrow("a map is pinned there, not a program");
    expect(() => openPinned(`${path}-not`, "map")).toThrow("ENOENT");
    {
      using live = openLive();
      const info = live.adopt(openPinned(path, "map"), path);
      expect(info.id).toBe(held("hash"));
      expect(live.adopt(openPinned(path, "map"), path).id).toBe(info.id);
      expect(fdCount()).toBe(before + 1);
    }
    expect(fdCount()).toBe(before);
  });

  test("by run-time statistics", () => {
    const before = fdCount();
    {
      using _on = enableStats();
      expect(fdCount()).toBe(before + 1);
    }
    expect(fdCount()).toBe(before);
  });
});
