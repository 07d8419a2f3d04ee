/** Unpacks the parts of the kernel's source tree that the lab builds tools from, from sid's `linux-source` package. */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "./cache.ts";
import { dependsOf, describe, packageTree } from "./packages.ts";
import { LabError, run } from "./process.ts";

/** Unpacked paths: the schedulers, bpftool with its libbpf and the kernel's disassembler, and their headers. */
const wanted = [
  "tools/sched_ext",
  "tools/include",
  "tools/bpf/bpftool",
  "tools/lib/bpf",
  "tools/arch/x86/include",
  "tools/arch/arm64/include",
  "arch/arm64/include/uapi/asm/bpf_perf_event.h",
  "include/uapi/asm-generic/bpf_perf_event.h",
  "kernel/bpf/disasm.c",
  "kernel/bpf/disasm.h",
];

/** Returns the tree's folder and the version of its package. The tree is cached. */
export async function kernelTools(): Promise<{ readonly tree: string; readonly version: string }> {
  const name = dependsOf(await describe("sid", "amd64", "linux-source")).find((each) =>
    /^linux-source-\d/.test(each),
  );
  if (name === undefined) throw new LabError("lab: linux-source of sid does not depend on a source package");
  const { version } = await describe("sid", "amd64", name);
  const tree = await cached(join(labDir(), "src", `tools-${keyOf(version, ...wanted)}`), async (fresh) => {
    const unpacked = await packageTree("sid", "amd64", [name]);
    const folder = join(unpacked, "usr/src");
    const archive = (await readdir(folder)).find((file) => /^linux-source-.*\.tar\.xz$/.test(file));
    if (archive === undefined) throw new LabError(`lab: ${name} has no archive of the sources`);
    await mkdir(fresh, { recursive: true });
    const paths = wanted.map((path) => `${archive.replace(/\.tar\.xz$/, "")}/${path}`);
    await run(["tar", "-xJf", join(folder, archive), "-C", fresh, "--strip-components=1", ...paths]);
    await rm(unpacked, { recursive: true, force: true });
  });
  return { tree, version };
}
