/** Captures as files, and the sample that is part of ktstr. These tests need no privilege, no QEMU, and no Linux. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";

const project = join(import.meta.dir, "../..");
const cli = join(project, "src/cli.ts");
const samplePath = join(project, "sample/sid.vmcore.zst");

interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function run(command: readonly string[], cwd?: string): Ran {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command], cwd === undefined ? {} : { cwd });
  return { status: exitCode, out: stdout.toString(), err: stderr.toString() };
}
const ktstr = (...args: string[]): Ran => run([process.execPath, cli, ...args]);

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-capture-"));
});
afterEach(() => {
  chmodSync(folder, 0o700);
  rmSync(folder, { recursive: true });
});
const path = (name: string): string => join(folder, name);

describe("the sample", () => {
  test("is a machine whose scheduler has stalled, according to every command", () => {
    const inspected = ktstr("inspect", "--sample");
    expect([inspected.status, inspected.err]).toEqual([0, ""]);
    expect(inspected.out).toContain("Scheduler  stall  enabled");
    const { scheduler, programs } = JSON.parse(ktstr("-j", "inspect", "--sample").out);
    expect(scheduler.ops).toBe("stall");
    expect(programs.some((prog: { run_cnt?: number }) => (prog.run_cnt ?? 0) > 1000)).toBe(true);
    for (const args of [
      ["map", "show"],
      ["prog", "show"],
      ["link", "show"],
      ["btf", "show"],
      ["map", "dump", "name", "stall.bss"],
      ["btf", "dump", "vmlinux", "format", "c"],
    ]) {
      const ran = ktstr(...args, "--sample");
      expect([args, ran.status, ran.err]).toEqual([args, 0, ""]);
      expect(ran.out.length).toBeGreaterThan(50);
    }
  });

  test("sched names the tasks that wait, their queue and their time, as the scheduler's program stated", () => {
    const { victims, unconsumed_dsq: id } = JSON.parse(
      readFileSync(join(project, "test/fixtures/sample-stall.json"), "utf8"),
    );
    const pids = victims.map(({ pid }: { pid: number }) => pid);
    const [scheduler, ...others] = JSON.parse(ktstr("-j", "sched", "--sample").out).schedulers;
    expect(others).toEqual([]);
    expect(scheduler.findings).toMatchObject([{ kind: "queue-not-consumed", pids, dsq_id: id }]);
    // Time of the program's own clock when it was last read.
    const frozenNs = Number(ktstr("get", "last_ns", "--sample").out);
    for (const { pid, comm, enqueued_ns: enqueuedNs } of victims) {
      const task = scheduler.tasks.find((each: { pid: number }) => each.pid === pid);
      expect(task).toMatchObject({ comm, dsq_id: id });
      const waitedMs = (frozenNs - enqueuedNs) / 1e6;
      expect(waitedMs).toBeGreaterThan(3000);
      expect(task.wait_ms).toBeGreaterThan(waitedMs * 0.95);
      expect(task.wait_ms).toBeLessThan(waitedMs * 1.05);
    }
    const page = ktstr("inspect", "--sample").out;
    expect(page).toMatch(
      /^finding {4}3 tasks have waited \d+\.\d{3} s .*on queue 0xdead0 \(unconsumed_dsq\)/m,
    );
    for (const { pid, comm } of victims) expect(page).toContain(`${comm}[${pid}]`);
  });

  test.each([
    ["stall_ops", "dispatch = stall_dispatch"],
    ["z_arena", "struct node *zoo_arena_head = arena+0x3e7fd8"],
  ])("addresses have the same names in inspect as in a dump of %s: %s", (name, shown) => {
    expect(ktstr("map", "dump", "--sample", "name", name).out).toContain(shown);
    expect(ktstr("inspect", "--sample").out).toContain(shown);
  });

  test("has at most 3 MB, and no path of the machine that made it", () => {
    expect(statSync(samplePath).size).toBeLessThan(3e6);
    const text = zstdDecompressSync(readFileSync(samplePath));
    for (const word of ["/home/", "/root/", "/var/tmp/", join(import.meta.dir, "../../")])
      expect(text.includes(word)).toBe(false);
  });

  test("is read without a call of libc by bun:ffi", async () => {
    const none = `const no = () => { throw new Error("bun:ffi was called"); };
      export { no as dlopen, no as ptr, no as toArrayBuffer }; export const read = {}, FFIType = {};`;
    const built = await Bun.build({
      entrypoints: [cli],
      target: "bun",
      outdir: folder,
      plugins: [
        {
          name: "no ffi",
          setup(build) {
            build.onLoad({ filter: /src\/ffi\.ts$/ }, async (args) => ({
              loader: "ts",
              contents: (await Bun.file(args.path).text()).replaceAll('"bun:ffi"', '"no-ffi"'),
            }));
            build.onResolve({ filter: /^no-ffi$/ }, () => ({ path: "none", namespace: "no-ffi" }));
            build.onLoad({ filter: /.*/, namespace: "no-ffi" }, () => ({ loader: "js", contents: none }));
          },
        },
      ],
    });
    expect(built.success).toBe(true);
    const without = (...args: string[]): Ran => run([process.execPath, "cli.js", ...args], folder);
    expect(without("inspect", "--sample")).toEqual(ktstr("inspect", "--sample"));
    expect(without("capture", "--sample", "-o", path("again")).status).toBe(0);
    writeFileSync(path("raw"), zstdDecompressSync(readFileSync(samplePath)));
    expect(without("-j", "map", "show", "--memory", path("raw"))).toEqual(
      ktstr("-j", "map", "show", "--sample"),
    );
    // Reading the running kernel needs libc. Its failure shows that the replacement is loaded.
    expect(without("map", "show").err).toContain("bun:ffi was called");
  });
});

describe("a capture's file", () => {
  test("is accessible to its owner only, and has a summary", () => {
    const made = ktstr("capture", "--sample", "-o", path("a.zst"));
    expect(made.status).toBe(0);
    expect(statSync(path("a.zst")).mode & 0o777).toBe(0o600);
    expect(made.out).toMatch(/pages \(.* MiB\) of 1\.0 GiB of memory\n/);
    expect(made.out).toMatch(/ maps, all with their contents \([0-9,]+ elements\), [0-9]+ programs/);
    const { file_bytes: size, ...summary } = JSON.parse(
      ktstr("-j", "capture", "--sample", "-o", path("b.zst")).out,
    );
    expect(size).toBe(statSync(path("b.zst")).size);
    expect(summary.maps).toBe(JSON.parse(ktstr("-j", "map", "show", "--sample").out).length);
    expect(readFileSync(path("b.zst")).equals(readFileSync(path("a.zst")))).toBe(true);
  });

  test("never replaces another file without --force", () => {
    writeFileSync(path("old"), "old");
    const refused = ktstr("capture", "--sample", "-o", path("old"));
    expect([refused.status, refused.out]).toEqual([1, ""]);
    expect(refused.err).toBe(`ktstr: error: write ${path("old")}: it exists already. --force replaces it.\n`);
    expect(readFileSync(path("old"), "utf8")).toBe("old");
    symlinkSync("nowhere", path("link"));
    expect(ktstr("capture", "--sample", "-o", path("link")).err).toContain("it exists already");
    expect(ktstr("capture", "--sample", "-o", path("old"), "--force").status).toBe(0);
    expect(readFileSync(path("old")).readUInt32LE(0)).toBe(0x464c_457f);
    expect(readdirSync(folder).sort()).toEqual(["link", "old"]);
  });

  test("can be opened wherever its compressed frames end, as zstd and pzstd write them", () => {
    const plain = zstdDecompressSync(readFileSync(samplePath));
    const cut = (every: number): Buffer[] => {
      const frames: Buffer[] = [];
      for (let at = 0; at < plain.length; at += every)
        frames.push(zstdCompressSync(plain.subarray(at, at + every), { pledgedSrcSize: every }));
      return frames;
    };
    // RFC 8878, 3.1.2: a frame to be skipped. pzstd stores the size of a frame in one before it.
    const skippable = (content: number[]): Buffer =>
      Buffer.from([0x5e, 0x2a, 0x4d, 0x18, content.length, 0, 0, 0, ...content]);
    const sized = (bytes: Buffer): Buffer => {
      const size = Buffer.alloc(4);
      size.writeUInt32LE(bytes.length);
      return Buffer.concat([skippable([...size]), bytes]);
    };
    const wanted = ktstr("inspect", "--sample");
    for (const [name, file] of [
      ["in the middle of pages", Buffer.concat(cut(1_234_567))],
      ["in many places", Buffer.concat(cut(100_000))],
      ["with sizes before them", Buffer.concat(cut(4_000_000).map(sized))],
      [
        "after an empty frame",
        Buffer.concat([...cut(6_000_000), zstdCompressSync(Buffer.alloc(0)), skippable([])]),
      ],
    ] as const) {
      writeFileSync(path(name), file);
      expect([name, ktstr("inspect", "--memory", path(name))]).toEqual([name, wanted]);
      writeFileSync(path("half"), file.subarray(0, file.length >> 1));
      const half = ktstr("map", "show", "--memory", path("half"));
      expect([name, half.status, half.out]).toEqual([name, 1, ""]);
      expect(half.err).toMatch(/^ktstr: error: decompress [^\n]+\n$/);
    }
  });

  test("has frames of whole segments, and the types in one frame, if it is compressed", () => {
    expect(ktstr("capture", "--sample", "-o", path("frames.zst")).status).toBe(0);
    const bytes = readFileSync(path("frames.zst"));
    const starts: number[] = [];
    const magic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
    for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 4)) starts.push(at);
    const sizes = starts.map((start, n) => zstdDecompressSync(bytes.subarray(start, starts[n + 1])).length);
    expect(sizes.length).toBeGreaterThan(2);
    const core = zstdDecompressSync(readFileSync(samplePath));
    const view = new DataView(core.buffer, core.byteOffset);
    const ends = new Set<number>();
    let longest = 0;
    for (let n = 0; n < view.getUint16(56, true); n++) {
      const at = 64 + 56 * n;
      const [offset, size] = [view.getBigUint64(at + 8, true), view.getBigUint64(at + 32, true)];
      ends.add(Number(offset)).add(Number(offset + size));
      longest = Math.max(longest, Number(size));
    }
    let end = 0;
    for (const size of sizes) {
      end += size;
      expect(ends.has(end)).toBe(true);
    }
    expect(end).toBe(core.length);
    expect(Math.max(...sizes)).toBeGreaterThanOrEqual(longest);
  });

  test("can be opened if the compressed frames do not have their size; a damaged one is a KtstrError", () => {
    const plain = zstdDecompressSync(readFileSync(samplePath));
    const bytes = zstdCompressSync(plain, { params: { 200: 0 } });
    writeFileSync(path("unsized"), bytes);
    expect(ktstr("-j", "prog", "show", "--memory", path("unsized"))).toEqual(
      ktstr("-j", "prog", "show", "--sample"),
    );
    for (const [name, damaged] of [
      ["cut", bytes.subarray(0, 1000)],
      ["short", readFileSync(samplePath).subarray(0, 10)],
      ["garbled", Buffer.concat([readFileSync(samplePath).subarray(0, 5000), Buffer.alloc(5000, 7)])],
      ["no core", zstdCompressSync(Buffer.from("not a core at all"))],
      ["nothing", zstdCompressSync(Buffer.alloc(0))],
    ] as const) {
      writeFileSync(path(name), damaged);
      const ran = ktstr("map", "show", "--memory", path(name));
      expect([name, ran.status, ran.out]).toEqual([name, 1, ""]);
      expect(ran.err).toMatch(/^ktstr: error: [^\n]+\n$/);
    }
  });

  test.each([
    [["capture", "--sample"], 2, "no output file given: -o FILE"],
    [["capture", "-o", "x"], 2, "no memory given: --memory FILE"],
    [["capture", "--sample", "-o", "-"], 2, "the output must be a file, not standard output"],
    [["capture", "--sample", "--memory", "x", "-o", "y"], 2, "--sample and --memory cannot be combined"],
    [
      ["capture", "--sample", "-o", "x", "--maps", "a", "--no-values"],
      2,
      "--maps and --no-values cannot be combined",
    ],
    [
      ["capture", "--sample", "-o", "x", "--maps", "no_such_map"],
      1,
      'no map has the name or id "no_such_map"',
    ],
    [["capture", "--sample", "-o", "/nowhere/x"], 1, "That folder does not exist."],
    [["capture", "--memory", "/nowhere/x", "-o", "y"], 1, "ENOENT"],
  ] as const)("%j is refused, and nothing is written", (args, status, sentence) => {
    const ran = run([process.execPath, cli, ...args], folder);
    expect([ran.status, ran.out]).toEqual([status, ""]);
    expect(ran.err).toContain(sentence);
    expect(readdirSync(folder)).toEqual([]);
  });
});

/** Runs a script that mounts; prints why and returns undefined if mounting is not permitted. */
function mounting(script: string): Ran | undefined {
  for (const unshare of [
    ["unshare", "-m"],
    ["unshare", "-rm"],
  ]) {
    if (Bun.which("unshare") === null || run([...unshare, "true"]).status !== 0) continue;
    return run([...unshare, "sh", "-ec", script, "sh", folder, process.execPath, cli]);
  }
  console.warn("skipped: a mount namespace cannot be created here");
  return undefined;
}

describe("a failure leaves the old file unchanged, and no partial file", () => {
  const CAPTURE = `"$2" "$3" capture --sample -o "$1/mnt/new"`;

  test("a full disk", () => {
    const ran = mounting(`mkdir "$1/mnt"; mount -t tmpfs -o size=1m none "$1/mnt"; echo old > "$1/mnt/new"
      ${CAPTURE} --force && exit 9; rm -f "$1/mnt/x"; cat "$1/mnt/new"; ls -A "$1/mnt"`);
    if (ran === undefined) return;
    expect(ran).toMatchObject({ status: 0, out: "old\nnew\n" });
    expect(ran.err).toMatch(/ENOSPC \(errno 28\)\. The disk is full\.\n$/);
  });

  test("a folder that is not writable", () => {
    const ran = mounting(`mkdir "$1/mnt"; mount -t tmpfs none "$1/mnt"; echo old > "$1/mnt/new"
      mount -o remount,ro "$1/mnt"; ${CAPTURE} --force && exit 9; cat "$1/mnt/new"; ls -A "$1/mnt"`);
    if (ran !== undefined) {
      expect(ran).toMatchObject({ status: 0, out: "old\nnew\n" });
      expect(ran.err).toMatch(/EROFS \(errno 30\)/);
    }
    if (process.getuid?.() === 0) return;
    writeFileSync(path("old"), "old");
    chmodSync(folder, 0o500);
    const refused = ktstr("capture", "--sample", "-o", path("old"), "--force");
    expect(refused.status).toBe(1);
    expect(refused.err).toContain("EACCES");
    expect(readFileSync(path("old"), "utf8")).toBe("old");
  });

  test.each([
    ["a pipe", () => run(["mkfifo", path("there")])],
    ["a folder", () => mkdirSync(path("there"))],
    ["a link to a device", () => symlinkSync("/dev/null", path("there"))],
  ])("%s under the name, which is not a regular file", (_, make) => {
    make();
    const before = lstatSync(path("there"));
    for (const force of [[], ["--force"]]) {
      const refused = ktstr("capture", "--sample", "-o", path("there"), ...force);
      expect([refused.status, refused.out]).toEqual([1, ""]);
      expect(refused.err).toContain("it exists and is not a regular file");
    }
    const { ino, mode } = lstatSync(path("there"));
    expect({ ino, mode }).toEqual({ ino: before.ino, mode: before.mode });
    expect(readdirSync(folder)).toEqual(["there"]);
  });

  test("a capture that is killed at any time, except that its temporary file may be left", async () => {
    expect(ktstr("capture", "--sample", "-o", path("whole")).status).toBe(0);
    const whole = readFileSync(path("whole"));
    const seen = new Set<string>();
    for (let round = 0; round < 16; round++) {
      writeFileSync(path("old"), "old");
      const child = Bun.spawn([process.execPath, cli, "capture", "--sample", "-o", path("old"), "--force"], {
        stdout: "ignore",
        stderr: "ignore",
      });
      // Half of the captures are killed when the temporary file exists, which is during the write.
      const ownFile = (): boolean => readdirSync(folder).some((name) => name.endsWith(`.${child.pid}.tmp`));
      while (round % 2 === 0 && child.exitCode === null && !ownFile()) await Bun.sleep(1);
      if (round % 2 === 1) await Bun.sleep(40 * round);
      child.kill("SIGKILL");
      await child.exited;
      const left = readFileSync(path("old"));
      seen.add(left.equals(whole) ? "whole" : left.toString("latin1", 0, 10));
      for (const name of readdirSync(folder)) if (name.endsWith(".tmp")) rmSync(path(name));
    }
    expect([...seen].filter((what) => what !== "whole" && what !== "old")).toEqual([]);
    expect(seen.has("old")).toBe(true);
  });

  test("a file that another process creates during the write is not replaced", async () => {
    const child = Bun.spawn([process.execPath, cli, "capture", "--sample", "-o", path("new")], {
      stdout: "ignore",
      stderr: "pipe",
    });
    while (child.exitCode === null && !readdirSync(folder).some((name) => name.endsWith(".tmp")))
      await Bun.sleep(1);
    const taken = !readdirSync(folder).includes(basename(path("new")));
    if (taken) writeFileSync(path("new"), "theirs");
    await child.exited;
    const isTheirs = readFileSync(path("new"), "utf8") === "theirs";
    // If the capture was first, `writeFileSync` replaced its file. The capture itself must never replace one.
    expect(isTheirs || !taken).toBe(true);
  });
});
