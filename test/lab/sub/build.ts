/** Builds the program that attaches sub-schedulers. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "../cache.ts";
import { fetchKernel } from "../kernels.ts";
import type { Arch } from "../packages.ts";
import { compileBpf, compileStatic, runBpftool, sysroot, vmlinuxHeader } from "../toolchain.ts";

const folder = import.meta.dir;

async function build(arch: Arch, out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const kernel = await fetchKernel("sid");
  const object = join(out, "sub.bpf.o");
  const include = [folder, await vmlinuxHeader(kernel), join(await sysroot(arch), "usr/include")];
  await compileBpf(join(folder, "sub.bpf.c"), kernel, include, object);
  await writeFile(join(out, "sub.skel.h"), await runBpftool(["gen", "skeleton", object, "name", "sub"]));
  await compileStatic(arch, join(out, "lab-sub"), ["-Wall", "-Wextra", `-I${out}`, join(folder, "sub.c")]);
}

/** Returns the path of a static program for guests with sid's kernel. Sub-schedulers exist since 7.1. */
export async function buildSub(): Promise<string> {
  const names = ["sub.bpf.c", "sub.c", "build.ts"];
  const texts = names.map((name) => Bun.file(join(folder, name)).text());
  const key = keyOf(...(await Promise.all(texts)), compileBpf.toString(), compileStatic.toString());
  const dir = await cached(join(labDir(), "sub", `amd64-${key}`), (fresh) => build("amd64", fresh));
  return join(dir, "lab-sub");
}
