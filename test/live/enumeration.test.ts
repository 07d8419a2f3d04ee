/** Walks over ids, and the descriptors that a state holds, on a fake kernel. */
import { describe, expect, spyOn, test } from "bun:test";
import { DisposedError, SyscallError } from "../../src/errors.ts";
import { openLive } from "../../src/live/live.ts";
import { log } from "../../src/log.ts";
import type { BpfCommand } from "../../src/uapi/bpf.ts";
import { EACCES, EFAULT, EINVAL, EMFILE, ENFILE, ENOENT, ENOMEM, EPERM } from "../../src/uapi/errno.ts";
import { MapType } from "../../src/uapi/names.ts";
import { FakeKernel } from "./fake.ts";

const KINDS = [
  { noun: "map", prefix: "BPF_MAP", list: "maps" },
  { noun: "program", prefix: "BPF_PROG", list: "progs" },
  { noun: "link", prefix: "BPF_LINK", list: "links" },
  { noun: "BTF object", prefix: "BPF_BTF", list: "btfs" },
] as const;

/** Three objects of every kind, with gaps between the ids. */
const kernelWithAll = (): FakeKernel => kernelWith([3, 4, 9]);

function kernelWith(ids: readonly number[]): FakeKernel {
  const kernel = new FakeKernel();
  for (const id of ids) {
    kernel.addMap({ id });
    kernel.progs.set(id, { id, info: { type: 1 } });
    kernel.links.set(id, { id, info: { type: 6, prog_id: 3 } });
    kernel.btfs.set(id, { id, info: { btf_size: 100 } });
  }
  return kernel;
}

function errorOf(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

for (const { noun, prefix, list } of KINDS) {
  const nextId: BpfCommand = `${prefix}_GET_NEXT_ID`;
  const fdById: BpfCommand = `${prefix}_GET_FD_BY_ID`;

  describe(`the walk over ${noun} ids`, () => {
    test("begins after 0 and ends with ENOENT", () => {
      const kernel = kernelWithAll();
      using live = openLive({ sys: kernel });
      expect(live[list]().map(({ id }) => id)).toEqual([3, 4, 9]);
      expect(kernel.countOf(nextId)).toBe(4);
      expect(live.warnings).toEqual([]);
    });

    test("asks for the next id only at the end of a run of ids", () => {
      const ids = [1, 2, 3, 4, 8, 10, 11, 12];
      const kernel = kernelWith(ids);
      using live = openLive({ sys: kernel, keep: () => false });
      expect(live[list]().map(({ id }) => id)).toEqual(ids);
      // After 0, 4, 8 and 10, which end a known run, and after 12.
      expect(kernel.countOf(nextId)).toBe(5);
      expect(kernel.openCount).toBe(0);
    });

    test("of a kernel without objects is empty", () => {
      using live = openLive({ sys: new FakeKernel() });
      expect(live[list]()).toEqual([]);
    });

    test("continues after an object that was freed before it was opened", () => {
      const kernel = kernelWithAll();
      const debug = spyOn(log, "debug");
      kernel.fail(fdById, ENOENT, { when: (attr) => attr.get("start_id") === 4 });
      using live = openLive({ sys: kernel });
      expect(live[list]().map(({ id }) => id)).toEqual([3, 9]);
      expect(live.warnings).toEqual([]);
      expect(debug).toHaveBeenCalledWith(`${noun} 4 was freed before it was opened`);
      debug.mockRestore();
    });

    test("ends even if every object is freed during the walk", () => {
      const kernel = kernelWithAll();
      kernel.after = (command) => {
        if (command !== nextId) return;
        for (const objects of [kernel.maps, kernel.progs, kernel.links, kernel.btfs]) objects.clear();
      };
      using live = openLive({ sys: kernel });
      expect(live[list]()).toEqual([]);
    });

    test("fails with the command, the errno and the privilege that it needs", () => {
      const kernel = kernelWithAll();
      kernel.fail(nextId, EPERM);
      using live = openLive({ sys: kernel });
      const error = errorOf(() => live[list]());
      expect(error).toBeInstanceOf(SyscallError);
      expect(error).toMatchObject({ command: nextId, errno: EPERM, code: "EPERM" });
      expect((error as SyscallError).message).toBe(`${nextId}: EPERM (errno 1)`);
      expect((error as SyscallError).hint).toContain("CAP_SYS_ADMIN");
    });

    test("fails in the middle with the current id", () => {
      const kernel = kernelWithAll();
      kernel.fail(nextId, EINVAL, { when: (attr) => attr.get("start_id") === 4 });
      using live = openLive({ sys: kernel });
      expect(errorOf(() => live[list]())).toMatchObject({
        message: `${nextId} after ${noun} 4: EINVAL (errno 22)`,
      });
    });

    for (const [errno, name] of [
      [EACCES, "EACCES"],
      [EPERM, "EPERM"],
      [ENOMEM, "ENOMEM"],
    ] as const) {
      test(`warns of one that cannot be opened (${name}), with its id, and continues`, () => {
        const kernel = kernelWithAll();
        kernel.fail(fdById, errno, { when: (attr) => attr.get("start_id") === 4 });
        using live = openLive({ sys: kernel });
        expect(live[list]().map(({ id }) => id)).toEqual([3, 9]);
        expect(live.warnings).toEqual([`${fdById} ${noun} 4: ${name} (errno ${errno}): skipped`]);
      });
    }

    test("warns of one whose info cannot be read, closes it, and continues", () => {
      const kernel = kernelWithAll();
      let asked = 0;
      kernel.fail("BPF_OBJ_GET_INFO_BY_FD", EFAULT, { times: 1, when: () => ++asked === 2 });
      using live = openLive({ sys: kernel, keep: () => false });
      expect(live[list]()).toHaveLength(2);
      expect(live.warnings).toHaveLength(1);
      expect(live.warnings[0]).toContain("BPF_OBJ_GET_INFO_BY_FD");
      expect(live.warnings[0]).toContain("EFAULT (errno 14)");
      expect(live.warnings[0]).toMatch(new RegExp(`${noun} \\d`));
      expect(kernel.openCount).toBe(0);
    });

    for (const [errno, hint] of [
      [EMFILE, "RLIMIT_NOFILE"],
      [ENFILE, "fs.file-max"],
    ] as const) {
      test(`ends if no descriptor is left (${hint}), and leaves none open`, () => {
        const kernel = kernelWithAll();
        kernel.fail(fdById, errno, { when: (attr) => attr.get("start_id") === 9 });
        {
          using live = openLive({ sys: kernel });
          const error = errorOf(() => live[list]());
          expect(error).toMatchObject({ command: fdById, errno });
          expect((error as SyscallError).message).toContain(`${noun} 9`);
          expect((error as SyscallError).hint).toContain(hint);
        }
        expect(kernel.openCount).toBe(0);
      });
    }

    test("leaves only descriptors open that `keep` selected", () => {
      const kernel = kernelWithAll();
      using live = openLive({ sys: kernel, keep: () => false });
      live[list]();
      expect(kernel.openCount).toBe(0);
    });
  });
}

describe("descriptors of maps", () => {
  test("stay open for those that `keep` selected, until disposal", () => {
    const kernel = kernelWithAll();
    {
      using live = openLive({ sys: kernel, keep: (map) => map.id !== 4 });
      live.maps();
      expect(kernel.openCount).toBe(2);
      live.maps();
      expect(kernel.openCount).toBe(2);
    }
    expect(kernel.openCount).toBe(0);
  });

  test("keep a map readable that its owner released", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 5, type: MapType.array, maxEntries: 2 }).putAll(2);
    using live = openLive({ sys: kernel });
    const [map] = live.maps();
    kernel.maps.clear();
    const value = live.readArray(map!, 1);
    expect(value).toEqual({ ok: true, value: new Uint8Array(8).fill(1) });
  });

  test("are closed if `keep` throws", () => {
    const kernel = kernelWithAll();
    {
      using live = openLive({
        sys: kernel,
        keep: (map) => {
          if (map.id === 4) throw new Error("a caller's mistake");
          return true;
        },
      });
      expect(() => live.maps()).toThrow("a caller's mistake");
    }
    expect(kernel.openCount).toBe(0);
  });

  test("a map that is not held gives an error instead of an empty result", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 5 }).putAll(3);
    using live = openLive({ sys: kernel, keep: () => false });
    const [map] = live.maps();
    expect(live.hashEntries(map!)).toMatchObject({ ok: false, why: { reason: "unsupported" } });
    expect(live.contents(map!)).toMatchObject({ kind: "unreadable", why: { reason: "unsupported" } });
  });

  test("a map by its id is opened once, without others", () => {
    const kernel = kernelWithAll();
    {
      using live = openLive({ sys: kernel });
      expect(live.map(4).id).toBe(4);
      expect(live.map(4).id).toBe(4);
      expect(kernel.openCount).toBe(1);
      expect(kernel.calls).not.toContain("BPF_MAP_GET_NEXT_ID");
      expect(live.maps()).toHaveLength(3);
      expect(kernel.openCount).toBe(3);
      expect(errorOf(() => live.map(5))).toMatchObject({
        message: "BPF_MAP_GET_FD_BY_ID map 5: ENOENT (errno 2)",
      });
    }
    expect(kernel.openCount).toBe(0);
  });
});

test("after disposal every call throws", () => {
  const kernel = kernelWithAll();
  const live = openLive({ sys: kernel });
  const [map] = live.maps();
  live[Symbol.dispose]();
  live[Symbol.dispose]();
  const questions: Record<string, () => unknown> = {
    maps: () => live.maps(),
    map: () => live.map(3),
    progs: () => live.progs(),
    links: () => live.links(),
    btfs: () => live.btfs(),
    btf: () => live.btf(3),
    kernelBtf: () => live.kernelBtf(),
    kernel: () => live.kernel(),
    activeScheduler: () => live.activeScheduler(),
    contents: () => live.contents(map!),
    readValue: () => live.readValue(map!, 0, 1),
    readArray: () => live.readArray(map!, 0),
    hashEntries: () => live.hashEntries(map!),
    percpuArray: () => live.percpuArray(map!, 0),
    percpuHashEntries: () => live.percpuHashEntries(map!),
    arenaPages: () => live.arenaPages(map!),
    lookup: () => live.lookup(map!, new Uint8Array(4)),
    lookupOfAnotherSize: () => live.lookup(map!, new Uint8Array(1)),
    programBtf: () => live.programBtf(map!),
  };
  for (const [name, ask] of Object.entries(questions)) {
    expect([name, errorOf(ask)]).toEqual([name, expect.any(DisposedError)]);
  }
  expect(kernel.openCount).toBe(0);
});
