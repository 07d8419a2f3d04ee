/**
 * The kernel tree's own sched_ext schedulers, built in the cache from Debian's source package as the tree's Makefile
 * (tools/sched_ext/Makefile) does: BPF object, linked, skeleton and subskeleton, and a loader around it.
 */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached, keyOf, labDir } from "./cache.ts";
import { triplet } from "./initramfs.ts";
import { fetchKernel, type Kernel, kernelBtf } from "./kernels.ts";
import { type Arch, dependsOf, describe, packageTree } from "./packages.ts";
import { LabError, run, tool } from "./process.ts";
import { compileStatic, runBpftool, sysroot, withoutPaths } from "./toolchain.ts";

export type SchedulerName = "scx_simple" | "scx_central" | "scx_flatcg" | "scx_sdt";

export const schedulerNames: readonly SchedulerName[] = [
  "scx_simple",
  "scx_central",
  "scx_flatcg",
  "scx_sdt",
];

/** The folder of the kernel's source tree that has the schedulers and the headers that they need, and no more. */
async function sources(): Promise<string> {
  const name = dependsOf(await describe("sid", "amd64", "linux-source")).find((each) =>
    /^linux-source-\d/.test(each),
  );
  if (name === undefined) throw new LabError("lab: linux-source of sid names no source package");
  const version = (await describe("sid", "amd64", name)).version;
  return cached(join(labDir(), "src", `sched_ext-${keyOf(version)}`), async (fresh) => {
    const tree = await packageTree("sid", "amd64", [name]);
    const folder = join(tree, "usr/src");
    const archive = (await readdir(folder)).find((file) => /^linux-source-.*\.tar\.xz$/.test(file));
    if (archive === undefined) throw new LabError(`lab: ${name} holds no archive`);
    await mkdir(fresh, { recursive: true });
    const wanted = ["tools/sched_ext", "tools/include"].map(
      (path) => `${archive.replace(/\.tar\.xz$/, "")}/${path}`,
    );
    await run(["tar", "-xJf", join(folder, archive), "-C", fresh, "--strip-components=1", ...wanted]);
    await rm(tree, { recursive: true, force: true });
  });
}

/** `vmlinux.h` of a kernel, made from the BTF inside its boot image. */
async function vmlinuxHeader(kernel: Kernel): Promise<string> {
  const btf = await kernelBtf(kernel);
  const dir = await cached(join(labDir(), "btf", `${basename(btf)}.include`), async (fresh) => {
    await mkdir(fresh, { recursive: true });
    await writeFile(join(fresh, "vmlinux.h"), await runBpftool(["btf", "dump", "file", btf, "format", "c"]));
  });
  return dir;
}

async function compileBpf(
  source: string,
  kernel: Kernel,
  include: readonly string[],
  out: string,
): Promise<void> {
  const headers = join(await sysroot(kernel.arch), "usr/include");
  const target = kernel.arch === "amd64" ? "x86" : "arm64";
  await run([
    ...[
      tool("clang-19"),
      "-target",
      "bpf",
      "-g",
      "-O2",
      "-mcpu=v3",
      "-mlittle-endian",
      `-D__TARGET_ARCH_${target}`,
    ],
    ...["-fms-extensions", "-Wno-microsoft-anon-tag", "-Wno-compare-distinct-pointer-types"],
    ...include.map((path) => `-I${path}`),
    ...["-isystem", headers, "-isystem", join(headers, triplet[kernel.arch])],
    ...withoutPaths(labDir()),
    ...["-c", source, "-o", out],
  ]);
}

async function build(name: SchedulerName, kernel: Kernel, tree: string, out: string): Promise<void> {
  const folder = join(tree, "tools/sched_ext");
  const own = [join(folder, "include"), join(folder, "include/bpf-compat"), await vmlinuxHeader(kernel)];
  const api = join(tree, "tools/include/uapi");
  const object = (stage: string): string => join(out, `${name}.${stage}o`);
  await mkdir(out, { recursive: true });
  await compileBpf(join(folder, `${name}.bpf.c`), kernel, [...own, api], object("bpf."));
  await runBpftool(["gen", "object", object("linked1."), object("bpf.")]);
  await runBpftool(["gen", "object", object("linked2."), object("linked1.")]);
  for (const [kind, file] of [
    ["skeleton", `${name}.bpf.skel.h`],
    ["subskeleton", `${name}.bpf.subskel.h`],
  ] as const) {
    await writeFile(join(out, file), await runBpftool(["gen", kind, object("linked2."), "name", name]));
  }
  const include = [`-I${out}`, `-I${join(folder, "include")}`];
  await compileStatic(kernel.arch, join(out, name), [...include, join(folder, `${name}.c`)]);
}

/** A scheduler's static program for sid's kernels of an architecture: the only ones of the lab that have sched_ext. */
export async function buildScheduler(name: SchedulerName, arch: Arch): Promise<string> {
  const kernel = await fetchKernel(arch === "amd64" ? "sid" : "arm64");
  const key = keyOf(kernel.release, build.toString(), compileBpf.toString(), withoutPaths.toString());
  const dir = await cached(join(labDir(), "schedulers", `${name}-${arch}-${key}`), async (fresh) =>
    build(name, kernel, await sources(), fresh),
  );
  return join(dir, name);
}
