/** `bpf_metadata_` constants of an object that libbpf loaded, compared with bpftool's. Needs root, clang-19 and bpftool. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../btf/support/live.ts";
import { kernelSkipReason } from "./bpftool.ts";

const SOURCE = `
#define SEC(name) __attribute__((section(name), used))
const volatile char bpf_metadata_author[] SEC(".rodata") = "the \\"zoo\\"";
const volatile int bpf_metadata_revision SEC(".rodata") = -7;
const volatile int other SEC(".rodata") = 1;
char _license[] SEC("license") = "GPL";
SEC("socket") int with_metadata(void *skb) { return other + bpf_metadata_revision + bpf_metadata_author[0]; }
`;

const cli = join(import.meta.dir, "../../src/cli.ts");

const isReady = kernelSkipReason("bpftool", "clang-19") === "";

test.skipIf(!isReady)("a program's metadata are equal to bpftool's", () => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-metadata-"));
  const bpffs = join(folder, "bpffs");
  try {
    writeFileSync(join(folder, "a.bpf.c"), SOURCE);
    run("clang-19", "-target", "bpf", "-O2", "-g", "-c", join(folder, "a.bpf.c"), "-o", join(folder, "a.o"));
    run("mkdir", bpffs);
    run("mount", "-t", "bpf", "bpf", bpffs);
    run("bpftool", "prog", "load", join(folder, "a.o"), join(bpffs, "prog"));
    const theirs = JSON.parse(run("bpftool", "-j", "prog", "show", "pinned", join(bpffs, "prog")));
    const ours = JSON.parse(run(process.execPath, cli, "-j", "prog", "show", "pinned", join(bpffs, "prog")));
    expect(theirs.metadata).toEqual({ author: 'the "zoo"', revision: -7 });
    expect(ours.metadata).toEqual(theirs.metadata);
    const text = run(process.execPath, cli, "prog", "show", "pinned", join(bpffs, "prog"));
    expect(text).toContain("revision = -7");
  } finally {
    Bun.spawnSync(["umount", bpffs]);
    rmSync(folder, { recursive: true, force: true });
  }
});
