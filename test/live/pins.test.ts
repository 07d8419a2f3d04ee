/** Pinned objects and single objects of the running kernel: their types, and the number of system calls to read them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pinnedPaths } from "../../src/live/bpffs.ts";
import { realSys } from "../../src/live/sys.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { run } from "../btf/support/live.ts";
import { bpftoolJson, CLI, kernelSkipReason, ktstr, ktstrJson, parseExact, spawn } from "./bpftool.ts";
import { FakeKernel } from "./fake.ts";
import { type Held, type HeldMap, Kit, u32 } from "./kit.ts";
import { addCongestionControl, createLink } from "./kit-links.ts";
import { kernelType, loadProg, returns, someTypes, usesMaps } from "./kit-progs.ts";

type Kind = "map" | "prog" | "link";
const KINDS: readonly Kind[] = ["map", "prog", "link"];

describe.skipIf(kernelSkipReason() !== "")("pins", () => {
  let kit: Kit;
  let hash: HeldMap;
  let filter: Held;
  let iterator: Held;
  /** A path, and the object that is pinned there. */
  const pins: [string, Kind, number][] = [];

  function pin(object: Held, kind: Kind, name: string): string {
    const path = kit.pin(object, name);
    pins.push([path, kind, object.id]);
    return path;
  }

  beforeAll(() => {
    kit = new Kit();
    hash = kit.map({ type: "hash", name: "pinned_hash" });
    filter = loadProg(kit, { type: "socket_filter", name: "pinned_filter", code: usesMaps(hash) });
    pin(hash, "map", "hash");
    pin(filter, "prog", "filter");
    const { map } = addCongestionControl(kit, `kt${process.pid}`);
    pin(map, "map", "ops");
    pin(createLink(kit, map, { attach: "struct_ops" }), "link", "ops-link");
    const target = kernelType("bpf_iter_task", BTF_KIND.FUNC);
    const program = loadProg(kit, { type: "tracing", attachType: "trace_iter", attachBtfId: target });
    iterator = createLink(kit, program, { attach: "trace_iter" });
    pin(iterator, "link", "iter-link");
    const sockmap = kit.map({ type: "sockmap" });
    const verdict = loadProg(kit, { type: "sk_skb", attachType: "sk_skb_verdict" });
    const attached = createLink(kit, verdict, { attach: "sk_skb_verdict", target: sockmap.fd });
    pin(attached, "link", "sockmap-link");
  });
  afterAll(() => kit[Symbol.dispose]());

  test("are shown with their type, and are errors for other types, in bpftool and in ktstr", () => {
    for (const [path, is, id] of pins)
      for (const kind of KINDS) {
        const theirs = spawn(["bpftool", "-j", kind, "show", "pinned", path]);
        const mine = ktstr(["-j", kind, "show", "pinned", path]);
        if (kind === is) {
          expect(parseExact(mine.out)).toMatchObject({ id });
          expect(parseExact(theirs.out)).toMatchObject({ id });
          continue;
        }
        expect([kind, path, mine.status, mine.err]).toEqual([kind, path, 1, ""]);
        // bpftool opens maps with a flag that links refuse (EINVAL), and then does not print the type.
        expect(parseExact(theirs.out)).toEqual({
          error: expect.stringMatching(/incorrect object type|bpf obj get/),
        });
        expect(parseExact(mine.out)).toEqual({ error: expect.stringContaining("incorrect object type") });
      }
  });

  test("have the paths of bpftool with -f, even if a name is not UTF-8", () => {
    const odd = Buffer.concat([Buffer.from(`${kit.bpffs}/odd-`), Buffer.from([0xff, 0xfe])]);
    // Not a path of bpftool's or ktstr's arguments: the directory's name is bytes.
    mkdirSync(odd);
    const script = `import os,sys; os.rename(sys.argv[1].encode(), os.fsencode(sys.argv[2]) + b"/odd-\\xff\\xfe/pin")`;
    const path = kit.pin(hash, "to-move");
    expect(spawn(["python3", "-c", script, path, kit.bpffs]).err).toBe("");
    try {
      for (const kind of KINDS) {
        const pinnedIn = (list: unknown): Record<number, string[]> => {
          const all = list as { id: number; pinned?: string[] }[];
          const own = all.map(({ id, pinned = [] }) => [
            id,
            pinned.filter((one) => one.startsWith(kit.bpffs)),
          ]);
          return Object.fromEntries(own.filter(([, paths]) => (paths as string[]).length > 0));
        };
        const sorted = (paths: Record<number, string[]>): [string, string[]][] =>
          Object.entries(paths).map(([id, list]) => [id, list.toSorted()]);
        const mine = sorted(pinnedIn(ktstrJson(kind, "show", "-f")));
        expect(mine).toEqual(sorted(pinnedIn(bpftoolJson("-f", kind, "show"))));
        const expected = pins.filter(([, is]) => is === kind).length + (kind === "map" ? 1 : 0);
        expect(mine.flatMap(([, paths]) => paths).length).toBe(expected);
      }
      expect(ktstr(["map", "show", "id", `${hash.id}`, "-f"]).out).toContain("odd-\\xff\\xfe/pin");
    } finally {
      rmSync(Buffer.concat([odd, Buffer.from("/pin")]));
      rmSync(odd, { recursive: true });
    }
  });

  test("have their names escaped exactly once in errors", () => {
    const path = kit.pin(hash, "back\\slash \x1b[31m");
    const shown = "/back\\\\slash \\x1b[31m: ";
    expect(ktstr(["prog", "show", "pinned", path]).err).toContain(`${shown}incorrect object type`);
    rmSync(path);
    expect(ktstr(["prog", "show", "pinned", path]).err).toContain(`${shown}ENOENT`);
  });

  test("of mode 0444 are shown to users who may read them", () => {
    const path = kit.pin(hash, "readable");
    chmodSync(kit.bpffs, 0o755);
    chmodSync(path, 0o444);
    // Runs as the owner, who may read the file and has no capability.
    const powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
    expect(
      parseExact(spawn([...powerless, "bpftool", "-j", "map", "show", "pinned", path]).out),
    ).toMatchObject({
      id: hash.id,
    });
    const mine = ktstr(["-j", "map", "show", "pinned", path], { under: powerless });
    expect([mine.status, mine.err]).toEqual([0, ""]);
    expect(parseExact(mine.out)).toMatchObject({ id: hash.id, name: "pinned_hash" });
  });
});

test("if there are more files than are opened, a warning says so", () => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-pins-"));
  try {
    for (const name of ["a", "b", "c"]) writeFileSync(join(folder, name), "");
    const kernel = new FakeKernel();
    kernel.files.set("/proc/self/mounts", `none ${folder} bpf rw 0 0\n`);
    const fails = { ...realSys, bpf: () => -2, readFile: (path: string) => kernel.readFile(path) };
    const warningsFor = (limit: number): string[] => {
      const warnings: string[] = [];
      pinnedPaths("map", fails, (sentence) => void warnings.push(sentence), limit);
      return warnings;
    };
    expect(warningsFor(3)).toEqual([]);
    expect(warningsFor(2)).toEqual([expect.stringContaining("only the first 2 files were opened")]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** Returns the number of bpf(2) calls of a command. */
function callsOf(command: readonly string[], log: string): number {
  const traced = spawn([
    "strace",
    "-f",
    "-qq",
    "-e",
    "trace=bpf",
    "-e",
    "signal=none",
    "-o",
    log,
    ...command,
  ]);
  // bpftool's status is 255 for some links that it shows.
  if (command[0] !== "bpftool") expect([command.join(" "), traced.status]).toEqual([command.join(" "), 0]);
  return readFileSync(log, "utf8")
    .split("\n")
    .filter((line) => line.includes("bpf(")).length;
}

describe.skipIf(kernelSkipReason("strace") !== "")("one object among two hundred", () => {
  let kit: Kit;
  const asked: [Kind, string[]][] = [];

  beforeAll(() => {
    kit = new Kit();
    for (let n = 0; n < 100; n++) kit.map({ type: "array", name: `many_${n}` });
    for (let n = 0; n < 100; n++) loadProg(kit, { type: "socket_filter", name: `many_${n}` });
    const map = kit.map({ type: "hash", name: "the_map" });
    const { btf } = someTypes(kit);
    const prog = loadProg(kit, {
      ...{ type: "socket_filter", name: "the_program", btfFd: btf.fd },
      code: usesMaps(map),
    });
    const tracing = loadProg(kit, {
      ...{ type: "tracing", attachType: "trace_iter", code: returns(0) },
      attachBtfId: kernelType("bpf_iter_task", BTF_KIND.FUNC),
    });
    const link = createLink(kit, tracing, { attach: "trace_iter", arm: u32(0, 0) });
    for (const [kind, object] of [
      ["map", map],
      ["prog", prog],
      ["link", link],
    ] as const) {
      asked.push([kind, ["id", `${object.id}`]]);
      asked.push([kind, ["pinned", kit.pin(object, kind)]]);
    }
  });
  afterAll(() => kit[Symbol.dispose]());

  test("is read alone: with about as many calls as bpftool makes", () => {
    const log = join(kit.directory, "strace");
    for (const [kind, selector] of asked) {
      const command = ["-j", kind, "show", ...selector];
      const mine = callsOf([process.execPath, CLI, ...command], log);
      const theirs = callsOf(["bpftool", ...command], log);
      expect([command.join(" "), mine <= Math.max(11, theirs)]).toEqual([command.join(" "), true]);
    }
  });

  test("is read alone when it is dumped, with the names of the programs that it calls", () => {
    const log = join(kit.directory, "strace");
    const { map } = addCongestionControl(kit, `kd${process.pid}`);
    const dump = ["map", "dump", "id", `${map.id}`];
    expect(callsOf([process.execPath, CLI, ...dump], log)).toBeLessThanOrEqual(20);
    expect(ktstr(dump).out).toContain("ssthresh = ssthresh");
    const variable = ["strace", "-f", "-qq", "-e", "trace=bpf", "-e", "signal=none", "-o", log];
    const got = spawn([...variable, process.execPath, CLI, "get", "id", `${map.id}`, "x"]);
    expect(got.status).not.toBe(0);
    expect(readFileSync(log, "utf8").match(/bpf\(/g)?.length).toBeLessThanOrEqual(11);
  });

  test("is read alone even if it does not exist", () => {
    const log = join(kit.directory, "strace");
    for (const kind of ["map", "prog", "link"]) {
      const words = [kind, "show", "id", "4294967295"];
      const asked = ["strace", "-f", "-qq", "-e", "trace=bpf", "-e", "signal=none", "-o", log];
      const mine = spawn([...asked, process.execPath, CLI, ...words]);
      expect([mine.status, mine.out]).toEqual([1, ""]);
      expect(mine.err).toContain(`no ${kind} has id 4294967295`);
      expect(readFileSync(log, "utf8").match(/bpf\(/g)?.length).toBe(1);
      expect(spawn(["bpftool", ...words]).err).toContain("No such file or directory");
    }
  });

  test("needs no id walk if read by path: CAP_BPF and CAP_PERFMON suffice", () => {
    const reduced = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    for (const [kind, selector] of asked) {
      const shown = ktstr(["-j", kind, "show", ...selector], { under: reduced });
      if (selector[0] === "pinned") expect([kind, shown.status, shown.err]).toEqual([kind, 0, ""]);
      else expect([kind, shown.status]).toEqual([kind, 1]);
    }
  });

  test("is shown as bytes if its types may not be read, with a message", () => {
    const { btf, intId, structId } = someTypes(kit);
    const types = { btfFd: btf.fd, btfKeyTypeId: intId, btfValueTypeId: structId };
    const typed = kit.map({ type: "array", name: "typed", valueSize: 16, maxEntries: 1, ...types });
    const path = kit.pin(typed, "typed");
    const reduced = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    const zeros = ["key", "0", "0", "0", "0"];
    for (const words of [
      ["dump", "pinned", path],
      ["lookup", "pinned", path, ...zeros],
    ]) {
      expect(ktstr(["map", ...words])).toMatchObject({ status: 0, err: "" });
      const shown = ktstr(["map", ...words], { under: reduced });
      expect([words[0], shown.status]).toEqual([words[0], 1]);
      expect(shown.err).toMatch(/shown as bytes, its types cannot be read: BPF_BTF_GET_FD_BY_ID .*EPERM/);
    }
  });

  test("has the next key that the kernel returns, for holes and for absent keys, without a walk", () => {
    const array = kit.map({ type: "array", name: "next_array", maxEntries: 3 });
    const progs = kit.map({ type: "prog_array", name: "next_progs", maxEntries: 3 });
    const hash = kit.map({ type: "hash", name: "next_hash", maxEntries: 64 });
    kit.fill(hash, 40);
    const log = join(kit.directory, "strace");
    for (const { id } of [array, progs, hash])
      for (const key of [
        [],
        ["key", "1", "0", "0", "0"],
        ["key", "2", "0", "0", "0"],
        ["key", "99", "9", "0", "0"],
      ]) {
        const words = ["-j", "map", "getnext", "id", `${id}`, ...key];
        const theirs = spawn(["bpftool", ...words]);
        const mine = ktstr(words);
        const answer = parseExact(theirs.out) as { next_key?: string[] };
        if (answer.next_key === undefined)
          expect([words.join(" "), mine.status]).toEqual([words.join(" "), 1]);
        else expect(parseExact(mine.out)).toEqual(answer);
      }
    const words = ["map", "getnext", "id", `${hash.id}`];
    expect(callsOf([process.execPath, CLI, ...words], log)).toBeLessThanOrEqual(5);
  });
});

test.skipIf(kernelSkipReason() !== "")("objects are shown if /sys is not mounted", () => {
  using kit = new Kit();
  const map = kit.map({ type: "hash", name: "without_sys" });
  const prog = loadProg(kit, { type: "socket_filter", name: "without_sys", code: usesMaps(map) });
  const without = (...words: string[]): ReturnType<typeof spawn> =>
    spawn([
      "unshare",
      "-m",
      "sh",
      "-c",
      'umount -R -l /sys; exec "$@"',
      "sh",
      process.execPath,
      CLI,
      ...words,
    ]);
  for (const [words, text] of [
    [["prog", "show", "id", `${prog.id}`], "without_sys"],
    [["map", "show", "id", `${map.id}`], "without_sys"],
    [["map", "dump", "id", `${map.id}`], "Found 0 elements"],
    [["inspect"], "CPUs not known (/sys is not mounted)"],
    [["prog", "show"], "without_sys"],
    [["link", "show"], ""],
  ] as const) {
    const ran = without(...words);
    expect([words.join(" "), ran.status, ran.err]).toEqual([words.join(" "), 0, ""]);
    expect(ran.out).toContain(text);
  }
  const json = without("-j", "inspect");
  const kernel = (JSON.parse(json.out) as { kernel: Record<string, unknown> }).kernel;
  expect([kernel["possible_cpus"], kernel["online_cpus"]]).toEqual([undefined, undefined]);
  expect(run("uname", "-r").trim()).toBe(kernel["release"] as string);
});
