/**
 * Builds the sched_ext schedulers of the kernel's tree from Debian's source package, as tools/sched_ext/Makefile does: a
 * linked BPF object, its skeleton and subskeleton, and the loader.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "./cache.ts";
import { kernelTools } from "./kernel-tools.ts";
import { fetchKernel, type Kernel } from "./kernels.ts";
import type { Arch } from "./packages.ts";
import { compileBpf, compileStatic, runBpftool, vmlinuxHeader, withoutPaths } from "./toolchain.ts";

export type SchedulerName = "scx_simple" | "scx_central" | "scx_flatcg" | "scx_sdt";

export const schedulerNames: readonly SchedulerName[] = [
  "scx_simple",
  "scx_central",
  "scx_flatcg",
  "scx_sdt",
];

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

/** Returns the path of a scheduler's static program. It is compiled for sid's kernel and runs on every release with sched_ext. */
export async function buildScheduler(name: SchedulerName, arch: Arch): Promise<string> {
  const kernel = await fetchKernel(arch === "amd64" ? "sid" : "arm64");
  const key = keyOf(kernel.release, build.toString(), compileBpf.toString(), withoutPaths.toString());
  const dir = await cached(join(labDir(), "schedulers", `${name}-${arch}-${key}`), async (fresh) =>
    build(name, kernel, (await kernelTools()).tree, fresh),
  );
  return join(dir, name);
}
