/** What ktstr answers where neither /proc nor /sys is mounted, against bpftool's answers where both are. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BPF_F_NO_PREALLOC } from "../../src/uapi/names.ts";
import { bare, withoutProc } from "./bare.ts";
import { bpftools, CLI, missing, only, parseExact, whyNoKernel } from "./bpftool.ts";
import { type Held, type HeldMap, Kit } from "./kit.ts";
import { addCongestionControl, createLink } from "./kit-links.ts";
import { kernelType, loadProg, someTypes, usesMaps } from "./kit-progs.ts";

const asList = (answer: unknown): unknown[] => (Array.isArray(answer) ? answer : [answer]);

const ktstr = (...words: string[]): ReturnType<typeof bare> => bare([process.execPath, CLI, ...words]);

describe.skipIf(whyNoKernel("setarch", "unshare") !== "")("without /proc and /sys", () => {
  let kit: Kit;
  let hash: HeldMap;
  let ops: Held;
  let tasks: HeldMap;
  let cgroups: HeldMap;
  let percpu: HeldMap;
  const objects: ["map" | "prog" | "link", Held, string][] = [];

  beforeAll(() => {
    kit = new Kit();
    hash = kit.map({ type: "hash", name: "bare_hash" });
    kit.fill(hash, 3);
    percpu = kit.map({ type: "percpu_hash", name: "bare_percpu" });
    kit.fill(percpu, 1);
    const types = someTypes(kit);
    const storage = { flags: BPF_F_NO_PREALLOC, maxEntries: 0, btfFd: types.btf.fd };
    const ids = { btfKeyTypeId: types.intId, btfValueTypeId: types.intId };
    tasks = kit.map({ type: "task_storage", name: "bare_tasks", ...storage, ...ids });
    cgroups = kit.map({ type: "cgrp_storage", name: "bare_cgroups", ...storage, ...ids });
    const filter = loadProg(kit, { type: "socket_filter", name: "bare_filter", code: usesMaps(hash) });
    ops = addCongestionControl(kit, `kb${process.pid}`).map;
    const target = kernelType("bpf_iter_task", BTF_KIND.FUNC);
    const program = loadProg(kit, { type: "tracing", attachType: "trace_iter", attachBtfId: target });
    objects.push(
      ["map", hash, kit.pin(hash, "bare-hash")],
      ["map", ops, kit.pin(ops, "bare-ops")],
      ["prog", filter, kit.pin(filter, "bare-filter")],
    );
    const links = [
      createLink(kit, ops, { attach: "struct_ops" }),
      createLink(kit, program, { attach: "trace_iter" }),
    ];
    links.forEach((link, index) => {
      objects.push(["link", link, kit.pin(link, `bare-link-${index}`)]);
    });
  });
  afterAll(() => kit[Symbol.dispose]());

  test("listings have all that bpftool has, but for what stands only in fdinfo", () => {
    for (const kind of ["map", "prog", "link", "btf"] as const) {
      const ran = ktstr("-j", kind, "show");
      expect([kind, ran.status, ran.err]).toEqual([kind, 0, ""]);
      const ids = objects.filter(([is]) => is === kind).map(([, { id }]) => id);
      const wanted = kind === "btf" ? [1] : ids;
      const mine = only(parseExact(ran.out), wanted);
      // One by one: in a listing bpftool hands a map's btf_id on to the next (see maps.test.ts).
      const theirs = wanted.map((id) => bpftools(kind, "show", "id", String(id)));
      // Who uses the kernel's BTF changes with every program.
      if (kind === "btf") for (const one of theirs as { prog_ids?: unknown }[]) delete one.prog_ids;
      if (kind === "btf") for (const one of theirs as { map_ids?: unknown }[]) delete one.map_ids;
      expect(missing(mine, withoutProc(theirs), { off: { loaded_at: 1 } })).toEqual([]);
      for (const key of ["frozen", "bytes_memlock"])
        if (kind === "map") expect(mine[0]).not.toHaveProperty(key);
    }
  });

  test("the kernel tells what a pin is, by its commands", () => {
    for (const [is, { id }, path] of objects)
      for (const kind of ["map", "prog", "link"]) {
        const ran = ktstr("-j", kind, "show", "pinned", path);
        if (kind === is) {
          expect([path, ran.status, ran.err]).toEqual([path, 0, ""]);
          expect(asList(parseExact(ran.out))[0]).toMatchObject({ id });
        } else {
          expect([kind, path, ran.status, ran.err]).toEqual([kind, path, 1, ""]);
          const noun = is === "prog" ? "program" : is;
          const error = expect.stringContaining(`incorrect object type: a ${noun} is pinned there`);
          expect(parseExact(ran.out)).toEqual({ error });
        }
      }
  });

  test("asking what a pin is leaves it as it was", () => {
    for (const [kind, { id }, path] of objects) {
      const before = bpftools(kind, "show", "id", `${id}`);
      for (const other of ["map", "prog", "link"]) ktstr(other, "show", "pinned", path);
      expect(missing(bpftools(kind, "show", "id", `${id}`), before, { off: { loaded_at: 1 } })).toEqual([]);
    }
  });

  test("contents are dumped, and the kernel's types come from its BTF object", () => {
    for (const { id } of [hash, ops]) {
      const ran = ktstr("-j", "map", "dump", "id", `${id}`);
      expect([id, ran.status, ran.err]).toEqual([id, 0, ""]);
      expect(missing(parseExact(ran.out), bpftools("map", "dump", "id", `${id}`))).toEqual([]);
    }
  });

  test("what needs them says which file is missing, and is not shown as empty", () => {
    for (const [words, file] of [
      [["map", "show", "-f"], "/proc/self/mounts"],
      [["map", "dump", "id", `${tasks.id}`], "/proc"],
      [["map", "dump", "id", `${cgroups.id}`], "/proc"],
      [["map", "dump", "id", `${percpu.id}`], "/sys/devices/system/cpu/possible"],
    ] as const) {
      const ran = ktstr(...words);
      expect([words.join(" "), ran.status]).toEqual([words.join(" "), 1]);
      expect(ran.err).toContain(file);
      expect(ran.err).not.toContain("    at ");
    }
  });

  test("inspect shows everything else", () => {
    const ran = ktstr("inspect");
    expect(ran.status).toBe(0);
    for (const text of ["bare_hash", "bare_filter", "CPUs not known"]) expect(ran.out).toContain(text);
    expect(ran.out).toContain("/sys/devices/system/cpu/possible");
  });
});
