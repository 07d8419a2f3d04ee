/** Compiles C for guests: clang for both architectures, Debian stable's static libraries, sid's bpftool. */
import { realpathSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { cached, labDir } from "./cache.ts";
import { triplet, userland } from "./initramfs.ts";
import { type Kernel, kernelBtf } from "./kernels.ts";
import { type Arch, packageTree } from "./packages.ts";
import { run, tool } from "./process.ts";

/** Libraries for static programs. They are from Debian stable, so their versions do not change. */
const sysrootPackages = [
  "libbpf-dev",
  "libelf-dev",
  "zlib1g-dev",
  "libzstd-dev",
  "libc6-dev",
  "libc6",
  "linux-libc-dev",
  "libgcc-14-dev",
];

export const hostArch = (): Arch => (process.arch === "arm64" ? "arm64" : "amd64");

export async function sysroot(arch: Arch): Promise<string> {
  return packageTree("trixie", arch, sysrootPackages);
}

/** Returns LLVM's linker, which supports all architectures: the machine's, or the one of clang-19's release. */
async function linker(): Promise<string> {
  const own = Bun.which("ld.lld-19");
  if (own !== null) return own;
  const tree = await packageTree("bookworm", hostArch(), ["lld-19"]);
  return join(tree, "usr/lib/llvm-19/bin/ld.lld");
}

/** Returns options for clang that keep the paths of these folders out of its output (types, line information, `__FILE__`). */
export function withoutPaths(...folders: readonly string[]): string[] {
  return ["-fdebug-compilation-dir=.", ...folders.map((folder) => `-ffile-prefix-map=${folder}=.`)];
}

/** Compiles a static program and links it with the sysroot's libbpf. `options` are include paths, defines and sources. */
export async function compileStatic(arch: Arch, out: string, options: readonly string[]): Promise<void> {
  const root = await sysroot(arch);
  const target = triplet[arch];
  await run([
    tool("clang-19"),
    `--target=${target}`,
    `--sysroot=${root}`,
    `--gcc-install-dir=${join(root, "usr/lib/gcc", target, "14")}`,
    `--ld-path=${await linker()}`,
    ...["-static", "-O2", "-g", join(import.meta.dir, "libelf-gap.c"), ...options],
    ...["-o", out, "-lbpf", "-lelf", "-lz", "-lzstd", "-lpthread"],
  ]);
}

/** Runs sid's bpftool on this machine, with its own loader and libraries. */
export async function runBpftool(args: readonly string[]): Promise<Uint8Array<ArrayBuffer>> {
  const arch = hostArch();
  const tree = await userland(arch);
  const libraries = join(tree, "usr/lib", triplet[arch]);
  const loader = realpathSync(
    join(libraries, arch === "amd64" ? "ld-linux-x86-64.so.2" : "ld-linux-aarch64.so.1"),
  );
  return run([loader, "--library-path", libraries, join(tree, "usr/sbin/bpftool"), ...args]);
}

/** Returns the path of a kernel's `vmlinux.h`, which is made from the BTF in its boot image. */
export async function vmlinuxHeader(kernel: Kernel): Promise<string> {
  const btf = await kernelBtf(kernel);
  const dir = await cached(join(labDir(), "btf", `${basename(btf)}.include`), async (fresh) => {
    await mkdir(fresh, { recursive: true });
    await writeFile(join(fresh, "vmlinux.h"), await runBpftool(["btf", "dump", "file", btf, "format", "c"]));
  });
  return dir;
}

/** Compiles a BPF object for a kernel's architecture. Folders of `include` are searched before the sysroot's. */
export async function compileBpf(
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
    ...withoutPaths(labDir(), dirname(source)),
    ...["-c", source, "-o", out],
  ]);
}
