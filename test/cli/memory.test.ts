/** The command line on frozen machines. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { memorySource } from "../../src/commands/source.ts";
import { eachMachine, labImages } from "../guest/images.ts";

interface Run {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const cli = join(import.meta.dir, "../../src/cli.ts");

function ktstr(...args: string[]): Run {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, cli, ...args]);
  return { status: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

test("FILE@ADDRESS is a piece of memory, unless a file has this name", () => {
  expect(memorySource("mem")).toEqual({ path: "mem" });
  expect(memorySource("mem@0x40000000")).toEqual({ path: "mem", physical: 0x4000_0000 });
  expect(memorySource("dir@2/mem@4096")).toEqual({ path: "dir@2/mem", physical: 4096 });
  expect(memorySource("user@host")).toEqual({ path: "user@host" });
  const dir = mkdtempSync(join(tmpdir(), "ktstr-"));
  const path = join(dir, "mem@0x1000");
  writeFileSync(path, "");
  expect(memorySource(path)).toEqual({ path });
  rmSync(dir, { recursive: true });
});

test.each([
  [["--memory", "mem@0x1000q", "map", "show"], "cannot be opened|no such file|ENOENT", 1],
  [["--memory", "mem@12ab", "map", "show"], '"12ab" is not a physical address', 2],
  [["--memory", "mem", "--vmcoreinfo", "here", "map", "show"], '"here" is not a physical address', 2],
  [["--vmlinux", "vmlinux", "map", "show"], "--vmlinux needs --memory", 2],
  [["--vmcoreinfo", "0x1000", "map", "show"], "--vmcoreinfo needs --memory", 2],
  [["--explain", "prog", "show"], "--explain needs --memory", 2],
  [["--format", "raw", "prog", "show"], "--format needs --memory", 2],
  [["--memory", "mem", "--format", "vmdk", "prog", "show"], "unknown format. The formats are: raw, elf", 2],
  [["vmlinux"], "no kernel image given", 2],
  [
    ["vmlinux", "/nowhere/vmlinuz-0"],
    "find the vmlinux of /nowhere/vmlinuz-0: it is not in any directory",
    1,
  ],
])("%j is refused with a sentence", (args, sentence, status) => {
  const run = ktstr(...args);
  expect(run.stderr).toMatch(new RegExp(sentence));
  expect(run.stdout).toBe("");
  expect(run.status).toBe(status);
});

const LISTS = [
  ["map", "show"],
  ["prog", "show"],
  ["link", "show"],
  ["btf", "show"],
];
/** Timeout for a machine that reads a dump of some GiB from a disk several times. */
const DISK_MS = 240_000;

eachMachine(await labImages(), (image) => {
  test(
    "only the file is needed, and --explain prints on stderr how the kernel was found",
    () => {
      const run = ktstr("--memory", image.memory, "--explain", "-j", "prog", "show");
      expect(run.status).toBe(0);
      expect(JSON.parse(run.stdout)).toBeArray();
      for (const what of [
        "VMCOREINFO: at physical 0x",
        "KASLR offset: 0x",
        "page tables: ",
        "symbols: ",
        "BTF: ",
      ])
        expect(run.stderr).toContain(what);
    },
    DISK_MS,
  );

  test(
    "pieces at their addresses, --vmcoreinfo, and the ELF core of the same freeze give the same output",
    () => {
      const note = image.answer("vmcoreinfo")!.split(" ")[0]!;
      const sources = [["--vmcoreinfo", note, "--memory", image.memory]];
      const [piece, ...more] = image.pieces;
      if (more.length === 0) sources.push(["--memory", `${image.memory}@0x${piece!.gpa.toString(16)}`]);
      if (image.vmcore !== undefined) sources.push(["--memory", image.vmcore]);
      for (const list of LISTS) {
        const { stdout } = ktstr("--memory", image.memory, "-j", ...list);
        for (const source of sources) expect(ktstr(...source, "-j", ...list).stdout).toBe(stdout);
      }
    },
    DISK_MS,
  );

  test("pinned paths are for a running kernel only", () => {
    const run = ktstr("--memory", image.memory, "prog", "show", "pinned", "/sys/fs/bpf/x");
    expect(run.status).toBe(2);
    expect(run.stderr).toContain("pinned paths exist only on a running kernel");
  });
});
