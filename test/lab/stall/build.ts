/** Builds the lab's own scheduler, which stalls on request in one of several ways. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "../cache.ts";
import { fetchKernel } from "../kernels.ts";
import type { Arch } from "../packages.ts";
import { compileBpf, compileStatic, runBpftool, sysroot, vmlinuxHeader } from "../toolchain.ts";

const folder = import.meta.dir;

async function build(arch: Arch, out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const kernel = await fetchKernel(arch === "amd64" ? "sid" : "arm64");
  const object = join(out, "stall.bpf.o");
  const include = [folder, await vmlinuxHeader(kernel), join(await sysroot(arch), "usr/include")];
  await compileBpf(join(folder, "stall.bpf.c"), kernel, include, `${object}.tmp`);
  await runBpftool(["gen", "object", object, `${object}.tmp`]);
  await writeFile(join(out, "stall.skel.h"), await runBpftool(["gen", "skeleton", object, "name", "stall"]));
  const options = ["-Wall", "-Wextra", "-Wno-unused-function", `-I${folder}`, `-I${out}`];
  await compileStatic(arch, join(out, "lab-stall"), [...options, join(folder, "stall.c")]);
}

/** Returns the path of the loader's static program. It is compiled for sid's kernel and runs on every release since 6.16. */
export async function buildStall(arch: Arch): Promise<string> {
  const names = ["stall.h", "stall.bpf.c", "stall.c", "build.ts"];
  const texts = names.map((name) => Bun.file(join(folder, name)).text());
  const key = keyOf(...(await Promise.all(texts)), compileBpf.toString(), compileStatic.toString());
  const dir = await cached(join(labDir(), "stall", `${arch}-${key}`), (fresh) => build(arch, fresh));
  return join(dir, "lab-stall");
}
