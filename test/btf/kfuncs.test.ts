/**
 * Compiles programs that call kfuncs, in the style of the kernel's selftests, with the header that `format c` prints, and
 * compares the header with bpftool's.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Btf } from "../../src/btf/btf.ts";
import { cDump } from "../../src/btf/c.ts";
import { openGuest } from "../../src/guest/guest.ts";
import sample from "../../src/sample.ts";
import { labDir } from "../lab-dir.ts";
import { LONG_MS, liveSkipReason, run, vmlinuxBytes } from "./support/live.ts";

const PROGRAMS = join(import.meta.dir, "kfuncs");
const VMLINUX = "/sys/kernel/btf/vmlinux";
const HELPERS = "/usr/include/bpf/bpf_helpers.h";
const compilerSkipReason =
  liveSkipReason("clang-19") || (existsSync(HELPERS) ? "" : `${HELPERS} is not there`);
const bpftoolSkipReason = liveSkipReason("bpftool");

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-kfuncs-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function compile(header: string, name: string, program: string): string {
  const include = join(folder, name);
  mkdirSync(include, { recursive: true });
  writeFileSync(join(include, "vmlinux.h"), header);
  const object = join(include, `${program}.o`);
  const source = join(PROGRAMS, `${program}.bpf.c`);
  const strict = ["-Wall", "-Werror", "-g", "-O2", "-D__TARGET_ARCH_x86"];
  run("clang-19", ...strict, "-target", "bpf", "-mcpu=v4", "-I", include, "-c", source, "-o", object);
  return object;
}

describe.skipIf(compilerSkipReason !== "")("programs that call kfuncs compile without a warning", () => {
  const everywhere = ["tasks", "packets", "trees"];

  test.each(everywhere)(
    "%s, with the running kernel's header, and the verifier accepts them",
    (program) => {
      const header = [...cDump(Btf.parse(vmlinuxBytes()))].join("");
      const object = compile(header, "running", program);
      const bpffs = join(folder, `bpffs-${program}`);
      mkdirSync(bpffs);
      run("mount", "-t", "bpf", "bpf", bpffs);
      try {
        const pins = join(bpffs, program);
        run("bpftool", "prog", "loadall", object, pins);
        expect(readdirSync(pins).length).toBeGreaterThan(0);
      } finally {
        run("umount", bpffs);
      }
    },
    LONG_MS,
  );

  test.each([...everywhere, "arena", "scheduler"])(
    "%s, with the header of a frozen 7.2",
    (program) => {
      using guest = openGuest({ memory: sample });
      const btf = guest.kernelBtf();
      if (!btf.ok) throw new Error(btf.why.detail);
      compile([...cDump(btf.value)].join(""), "frozen", program);
    },
    LONG_MS,
  );
});

/** Splits a header into definitions and removes spaces around `*`. */
function definitions(header: string): string[] {
  return header
    .split(/\n\n+/)
    .map((block) => block.trim().replaceAll(/ *\* */g, "*"))
    .filter((block) => block !== "");
}

/** bpftool prints a member `struct tag;` (not C without -fms-extensions; ktstr prints its members) and declarations of enums. */
const isInvalidC = (block: string): boolean =>
  /^\t+(struct|union) \w+;$/m.test(block) || /^enum \w+;$/.test(block);
/** A union whose members are not in BTF still has a size, which bpftool does not print. */
const isEmptyUnion = (block: string): boolean => /^(typedef )?union( \w+)? \{\n\}/.test(block);

const withoutPacked = (block: string): string => block.replaceAll(" __attribute__((packed))", "");

function kernels(): [string, string][] {
  const kept = join(labDir(), "btf");
  const files = existsSync(kept) ? readdirSync(kept).filter((name) => name.endsWith(".btf")) : [];
  return [
    ["the running kernel", VMLINUX],
    ...files.map((name): [string, string] => [name, join(kept, name)]),
  ];
}

describe.skipIf(bpftoolSkipReason !== "")("`format c` is equal to bpftool's", () => {
  test.each(kernels())(
    "definitions, kfuncs, order: %s",
    (_, path) => {
      const btf = Btf.parse(readFileSync(path));
      const theirs = definitions(run("bpftool", "btf", "dump", "file", path, "format", "c", "unsorted"));
      const ours = definitions([...cDump(btf, { unsorted: true })].join(""));
      const known = new Set(ours);
      const same = theirs.filter((block) => known.has(block));
      // bpftool never packs a union, so its alignment can differ from BTF's.
      const unpacked = new Set(ours.map(withoutPacked));
      const isKnown = (block: string): boolean =>
        known.has(block) || isInvalidC(block) || isEmptyUnion(block) || unpacked.has(withoutPacked(block));
      expect(theirs.filter((block) => !isKnown(block))).toEqual([]);
      // The same definitions in the same order.
      const shared = new Set(same);
      expect(ours.filter((block) => shared.has(block))).toEqual(same);
      expect(ours.length).toBe(theirs.length);

      const sortedOurs = definitions([...cDump(btf)].join("")).filter((block) => shared.has(block));
      const sortedTheirs = definitions(run("bpftool", "btf", "dump", "file", path, "format", "c"));
      const printed = new Set(sortedTheirs);
      // bpftool skips the first type of its order, because it takes it for void (sort_btf_c sorts id 0 to the end).
      const sorted = sortedOurs.filter((block) => printed.has(block));
      expect(sorted).toEqual(sortedTheirs.filter((block) => shared.has(block)));
    },
    LONG_MS,
  );

  test("big-endian BTF, alone and in an ELF file", () => {
    const source = join(folder, "big.c");
    writeFileSync(
      source,
      `struct awkward { char a; unsigned long long b; int c : 3; long d : 40; int e[7]; const char *f; enum { A, B = -5 } g; } x;
       enum big { BIG = 0x100000000ULL } y; int add(struct awkward *p, int n) { return p->c + n; }`,
    );
    run("clang-19", "-g", "-O2", "-target", "bpfeb", "-c", source, "-o", `${source}.o`);
    run("llvm-objcopy-19", "--dump-section", `.BTF=${source}.btf`, `${source}.o`);
    const cli = join(import.meta.dir, "../../src/cli.ts");
    for (const path of [`${source}.o`, `${source}.btf`])
      for (const format of [["raw"], ["c"], ["c", "unsorted"]]) {
        const words = ["btf", "dump", "file", path, "format", ...format];
        expect(run(process.execPath, cli, ...words)).toBe(run("bpftool", ...words));
      }
    expect(run(process.execPath, cli, "-j", "btf", "dump", "file", `${source}.o`).trim()).toBe(
      run("bpftool", "-j", "btf", "dump", "file", `${source}.o`).trim(),
    );
  });
});
