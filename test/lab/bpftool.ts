/**
 * Builds bpftool 7.8 with the parts that Debian's package does not have: the BPF skeletons (`pids`, `prog profile`) and
 * the disassembler of machine code (`prog dump jited`). It is built from the kernel's sources as by
 * tools/bpf/bpftool/Makefile, and linked statically, so one file runs on the machine and in guests of any release.
 */
import { mkdir, readdir, readlink, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "./cache.ts";
import { triplet } from "./initramfs.ts";
import { kernelTools } from "./kernel-tools.ts";
import { fetchKernel } from "./kernels.ts";
import { type Arch, packageTree } from "./packages.ts";
import { compileBpf, compileStatic, hostArch, runBpftool, sysroot, vmlinuxHeader } from "./toolchain.ts";

/** The -D options of the Makefile for libbfd of Debian trixie (binutils 2.44: four arguments, styled output). */
const defines = [
  ...["-D_GNU_SOURCE", "-D_LARGEFILE64_SOURCE", "-D_FILE_OFFSET_BITS=64", "-D__EXPORTED_HEADERS__"],
  ...['-DPACKAGE="bpftool"', "-DHAVE_LIBBFD_SUPPORT", "-DDISASM_FOUR_ARGS_SIGNATURE", "-DDISASM_INIT_STYLED"],
  // Signing of programs needs libcrypto.
  "-DBPFTOOL_WITHOUT_CRYPTO",
];

const skeletons = ["pid_iter", "profiler"] as const;

async function filesIn(folder: string, suffix: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(suffix)).sort();
  return names.map((name) => join(folder, name));
}

/** Creates a folder with libbpf's headers as `bpf/*.h`: those of the tree, and the helper definitions that its build generates. */
async function libbpfHeaders(tree: string, out: string): Promise<string> {
  const include = join(out, "include");
  await mkdir(join(include, "bpf"), { recursive: true });
  const generated = join(await sysroot(hostArch()), "usr/include/bpf/bpf_helper_defs.h");
  for (const path of [...(await filesIn(join(tree, "tools/lib/bpf"), ".h")), generated])
    await symlink(path, join(include, "bpf", path.slice(path.lastIndexOf("/") + 1)));
  return include;
}

async function build(arch: Arch, tree: string, out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const source = join(tree, "tools/bpf/bpftool");
  const kernel = await fetchKernel(arch === "amd64" ? "sid" : "arm64");
  const include = await libbpfHeaders(tree, out);
  const api = [join(tree, "tools/include"), join(tree, "tools/include/uapi")];
  for (const name of skeletons) {
    const object = join(out, `${name}.bpf.o`);
    const folders = [await vmlinuxHeader(kernel), include, ...api.slice(1)];
    await compileBpf(join(source, "skeleton", `${name}.bpf.c`), kernel, folders, `${object}.tmp`);
    await runBpftool(["gen", "object", object, `${object}.tmp`]);
    const skeleton = await runBpftool(["gen", "skeleton", object, "name", `${name}_bpf`]);
    await writeFile(join(out, `${name}.skel.h`), skeleton);
  }
  const binutils = await packageTree("trixie", arch, ["binutils-dev", "libiberty-dev"]);
  const sources = [
    ...(await filesIn(source, ".c")).filter((path) => !path.endsWith("/sign.c")),
    ...(await filesIn(join(tree, "tools/lib/bpf"), ".c")),
    join(tree, "kernel/bpf/disasm.c"),
  ];
  const folders = [out, include, join(tree, "kernel/bpf"), ...api].map((path) => `-I${path}`);
  await compileStatic(arch, join(out, "bpftool"), [
    ...["-w", ...defines, ...folders, "-idirafter", join(binutils, "usr/include"), ...sources],
    ...[`-L${join(binutils, "usr/lib", triplet[arch])}`, "-lbfd", "-lopcodes", "-lsframe", "-liberty"],
  ]);
}

/**
 * Returns the path of the lab's bpftool for an architecture. Builds it if it is not in the cache. `bpftool/ARCH` in the
 * cache is a link to its folder, for tests that do not import the lab.
 */
export async function buildBpftool(arch: Arch): Promise<string> {
  const { tree, version } = await kernelTools();
  const key = keyOf(version, build.toString(), ...defines, compileBpf.toString(), compileStatic.toString());
  const dir = await cached(join(labDir(), "bpftool", `${arch}-${key}`), (fresh) => build(arch, tree, fresh));
  const current = join(labDir(), "bpftool", arch);
  if ((await readlink(current).catch(() => "")) !== dir) {
    const fresh = `${current}.tmp-${process.pid}`;
    await symlink(dir, fresh);
    await rename(fresh, current);
  }
  return join(dir, "bpftool");
}
