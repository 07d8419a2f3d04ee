/** Answers of the executable if neither /proc nor /sys is mounted, compared with bpftool's answers with both. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BPF_F_NO_PREALLOC } from "../../src/uapi/names.ts";
import { bpftoolJson, kernelSkipReason, missing, only, parseExact, spawn } from "./bpftool.ts";
import { type Held, type HeldMap, Kit } from "./kit.ts";
import { addCongestionControl, createLink } from "./kit-links.ts";
import { kernelType, loadProg, someTypes, usesMaps } from "./kit-progs.ts";
import { buildForThisMachine, runWithoutProc, withoutProc } from "./without-proc.ts";

/** The warning of listings about /proc. */
const NO_HOLDERS =
  "ktstr: warn: /proc is not mounted: the processes that hold objects are not known, nor the memory of maps and whether they are frozen\n";

const asList = (answer: unknown): unknown[] => (Array.isArray(answer) ? answer : [answer]);

describe.skipIf(kernelSkipReason("unshare") !== "")("without /proc and /sys", () => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-bare-"));
  let executable = "";
  const ktstr = (...words: string[]): ReturnType<typeof runWithoutProc> =>
    runWithoutProc([executable, ...words]);
  let kit: Kit;
  let hash: HeldMap;
  let ops: Held;
  let tasks: HeldMap;
  let cgroups: HeldMap;
  let percpu: HeldMap;
  const objects: ["map" | "prog" | "link", Held, string][] = [];

  beforeAll(async () => {
    executable = await buildForThisMachine(folder);
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
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
    kit[Symbol.dispose]();
  });

  test("listings have everything that bpftool has, except facts of fdinfo", () => {
    for (const kind of ["map", "prog", "link", "btf"] as const) {
      const ran = ktstr("-j", kind, "show");
      expect([kind, ran.status, ran.err]).toEqual([kind, 0, NO_HOLDERS]);
      const ids = objects.filter(([is]) => is === kind).map(([, { id }]) => id);
      const wanted = kind === "btf" ? [1] : ids;
      const mine = only(parseExact(ran.out), wanted);
      // One by one, because in a listing bpftool repeats a map's btf_id for the next (see maps.test.ts).
      const theirs = wanted.map((id) => bpftoolJson(kind, "show", "id", String(id)));
      // The users of the kernel's BTF change with every program.
      if (kind === "btf") for (const one of theirs as { prog_ids?: unknown }[]) delete one.prog_ids;
      if (kind === "btf") for (const one of theirs as { map_ids?: unknown }[]) delete one.map_ids;
      expect(missing(mine, withoutProc(theirs), { off: { loaded_at: 1 } })).toEqual([]);
      for (const key of ["frozen", "bytes_memlock"])
        if (kind === "map") expect(mine[0]).not.toHaveProperty(key);
    }
  });

  test("the type of a pin follows from the kernel's commands", () => {
    for (const [is, { id }, path] of objects)
      for (const kind of ["map", "prog", "link"]) {
        const ran = ktstr("-j", kind, "show", "pinned", path);
        if (kind === is) {
          expect([path, ran.status, ran.err]).toEqual([path, 0, NO_HOLDERS]);
          expect(asList(parseExact(ran.out))[0]).toMatchObject({ id });
        } else {
          expect([kind, path, ran.status, ran.err]).toEqual([kind, path, 1, ""]);
          const noun = is === "prog" ? "program" : is;
          const error = expect.stringContaining(`incorrect object type: a ${noun} is pinned there`);
          expect(parseExact(ran.out)).toEqual({ error });
        }
      }
  });

  test("finding the type of a pin does not change it", () => {
    for (const [kind, { id }, path] of objects) {
      const before = bpftoolJson(kind, "show", "id", `${id}`);
      for (const other of ["map", "prog", "link"]) ktstr(other, "show", "pinned", path);
      expect(missing(bpftoolJson(kind, "show", "id", `${id}`), before, { off: { loaded_at: 1 } })).toEqual(
        [],
      );
    }
  });

  test("contents are dumped, and the kernel's types come from its BTF object", () => {
    for (const { id } of [hash, ops]) {
      const ran = ktstr("-j", "map", "dump", "id", `${id}`);
      expect([id, ran.status, ran.err]).toEqual([id, 0, ""]);
      expect(missing(parseExact(ran.out), bpftoolJson("map", "dump", "id", `${id}`))).toEqual([]);
    }
  });

  test("commands that need them name the missing file, and do not print an empty answer", () => {
    for (const [words, file] of [
      [["map", "show", "-f"], "/proc/self/mounts"],
      [["token", "list"], "/proc/self/mounts"],
      [["cgroup", "tree"], "/proc/self/mounts"],
      [["prog", "show", "--attached"], "/proc/self/mounts"],
      [["perf", "show"], "/proc"],
      [["symbol", "ffffffff81000000"], "/proc/kallsyms"],
      [["sched"], "/proc is not mounted"],
      [["task", "show"], "/proc is not mounted"],
      [["map", "dump", "id", `${tasks.id}`], "/proc"],
      [["map", "dump", "id", `${cgroups.id}`], "/proc"],
      [["map", "dump", "id", `${percpu.id}`], "/sys/devices/system/cpu/possible"],
    ] as const) {
      const ran = ktstr(...words);
      expect([words.join(" "), ran.status]).toEqual([words.join(" "), 1]);
      expect(ran.err).toContain(file);
      expect(ran.err).not.toContain("    at ");
    }
    const net = ktstr("-j", "net", "show");
    expect([net.status, net.err]).toEqual([0, expect.stringContaining("flow dissector is not shown")]);
  });

  test("rounds have the counters that need neither of them, and report the missing ones", () => {
    const ran = ktstr("metrics", "--once");
    expect(ran.status).toBe(0);
    expect(ran.out).toContain(`ktstr_map_entries{id="${hash.id}",name="bare_hash",type="hash"} 3\n`);
    expect(ran.out).not.toMatch(new RegExp(`^ktstr_map_entries\\{id="${percpu.id}"`, "m"));
    expect(ran.out).toMatch(/^ktstr_unreadable [1-9]/m);
    const top = ktstr("top", "-b", "--rounds", "1");
    expect([top.status, top.err]).toEqual([0, expect.stringContaining("/sys/devices/system/cpu/possible")]);
    expect(top.out).toMatch(/ \d+ maps, memory not known/);
  });

  test("inspect shows everything else", () => {
    const ran = ktstr("inspect");
    expect(ran.status).toBe(0);
    for (const text of [
      "bare_hash",
      "bare_filter",
      "CPUs not known",
      "memory not known",
      "/proc is not mounted",
    ])
      expect(ran.out).toContain(text);
    expect(ran.out).toContain("/sys/devices/system/cpu/possible");
  });

  test("`pin` holds a map while a command runs, which has the caller's mounts and its own exit status", () => {
    const script = `[ ! -e /proc/self ] && ! ls /proc | grep -q . && echo "$0" && exit 7`;
    const ran = ktstr("pin", "bare_hash", "--", "sh", "-c", script, "held");
    expect([ran.status, ran.out]).toEqual([7, "held\n"]);
    expect(ran.err).toContain(`holding map ${hash.id} `);
  });

  test("a closed pipe and wrong usage end as with /proc and /sys", () => {
    const cut = runWithoutProc(["sh", "-c", '"$0" inspect --sample | head -n 1; echo done', executable]);
    expect([cut.status, cut.out.split("\n").length, cut.err]).toEqual([0, 3, ""]);
    expect(ktstr("map", "show", "id").status).toBe(2);
  });

  test("/proc and /sys are not mounted afterwards", () => {
    const ran = runWithoutProc([
      "sh",
      "-c",
      '"$0" inspect | wc -l > "$0.lines" && ls -A /proc /sys',
      executable,
    ]);
    expect([ran.status, ran.out, ran.err]).toEqual([0, "/proc:\n\n/sys:\n", ""]);
  });

  /** With BUN_BE_BUN=1 the executable runs any script. */
  describe("the end of the stack is computed from the limit", () => {
    const script = join(folder, "deep.js");
    beforeAll(() => {
      writeFileSync(
        script,
        `let depth = 0;
        function deeper() { depth++; deeper(); }
        try { deeper(); } catch (error) { console.log(error.name, depth); }
        Bun.gc(true);`,
      );
    });
    const deep = (
      command: readonly string[],
      run: (words: string[]) => ReturnType<typeof runWithoutProc>,
    ): number => {
      const ran = run(["env", "BUN_BE_BUN=1", "BUN_JSC_useJIT=0", ...command, executable, script]);
      const [, depth] = /^RangeError (\d+)\n$/.exec(ran.out) ?? [];
      expect([ran.status, ran.err, depth]).toEqual([0, "", expect.any(String)]);
      return Number(depth);
    };

    test.each(["512", "2048", "8192", "65536", "unlimited"])("%s KiB", (kib) => {
      const bytes = kib === "unlimited" ? kib : String(Number(kib) * 1024);
      const limited = ["prlimit", `--stack=${bytes}`];
      // glibc reads the other end from /proc/self/maps; above 8 MiB the engine has its own limit.
      const [without, withProc] = [deep(limited, runWithoutProc), deep(limited, (words) => spawn(words))];
      expect(without / withProc).toBeGreaterThan(0.8);
      expect(without / withProc).toBeLessThan(1.25);
    });

    test("with a megabyte of environment variables", () => {
      const variables = Array.from({ length: 10 }, (_, index) => `KTSTR_${index}=${"x".repeat(100_000)}`);
      expect(deep(["env", ...variables], runWithoutProc)).toBeGreaterThan(1000);
    });
  });
});
