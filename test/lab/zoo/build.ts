/**
 * Builds the zoo: a statically linked loader that contains the BPF objects, which are the same for all kernels and
 * architectures. A guest needs only this file. clang compiles both, and cross-compiles the loader.
 */
import { mkdir, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached, keyOf, labDir } from "../cache.ts";
import { triplet } from "../initramfs.ts";
import type { Arch } from "../packages.ts";
import { run, tool } from "../process.ts";
import { compileStatic, sysroot, withoutPaths } from "../toolchain.ts";

export interface ZooOptions {
  readonly arch: Arch;
  /** Output folder. Default: an entry of the lab's cache, which is built again if a source changes. */
  readonly outDir?: string;
}

export interface Zoo {
  /** Path of the static program. */
  readonly loader: string;
  /** Folder with the BPF objects that the loader contains. */
  readonly objects: string;
}

const folder = import.meta.dir;
const warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"];

async function sources(): Promise<{ bpf: string[]; loader: string[]; headers: string[] }> {
  const inDir = async (dir: string, suffix: RegExp): Promise<string[]> =>
    (await readdir(join(folder, dir)))
      .filter((name) => suffix.test(name))
      .sort()
      .map((name) => join(folder, dir, name));
  return {
    bpf: await inDir("bpf", /\.bpf\.c$/),
    loader: await inDir("loader", /\.[cS]$/),
    headers: [
      ...(await inDir(".", /\.h$/)),
      ...(await inDir("bpf", /\.h$/)),
      ...(await inDir("loader", /\.h$/)),
    ],
  };
}

async function compileObject(source: string, root: string, arch: Arch, out: string): Promise<void> {
  const include = join(root, "usr/include");
  // Arenas need addr_space_cast: kernels with it (since 6.9) also have instruction set v4. The other objects load on 6.1.
  const cpu = basename(source).startsWith("arena") ? "v4" : "v3";
  const options = ["-target", "bpf", `-mcpu=${cpu}`, "-O2", "-g", ...warnings, "-Wno-unused-parameter"];
  const paths = ["-isystem", include, "-isystem", join(include, triplet[arch])];
  const object = join(out, basename(source).replace(/\.c$/, ".o"));
  await run([
    tool("clang-19"),
    ...options,
    ...paths,
    ...withoutPaths(folder, labDir()),
    "-c",
    source,
    "-o",
    object,
  ]);
}

async function build(arch: Arch, out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const { bpf, loader } = await sources();
  const root = await sysroot(arch);
  for (const source of bpf) await compileObject(source, root, arch, out);
  const options = ["-std=gnu2x", "-D_GNU_SOURCE", ...warnings, `-Wa,-I${out}`];
  await compileStatic(arch, join(out, "zoo-loader"), [...options, ...loader]);
}

/** Builds the zoo for an architecture. Throws a `LabError` with the missing tool or the compiler's messages. */
export async function buildZoo(options: ZooOptions): Promise<Zoo> {
  const { arch, outDir } = options;
  if (outDir !== undefined) {
    await build(arch, outDir);
    return { loader: join(outDir, "zoo-loader"), objects: outDir };
  }
  const all = [...Object.values(await sources()).flat(), import.meta.path, join(folder, "../toolchain.ts")];
  const texts = await Promise.all(
    all.map(async (path) => `${basename(path)}\0${await Bun.file(path).text()}`),
  );
  const dir = await cached(join(labDir(), "zoo", `${arch}-${keyOf(...texts)}`), (fresh) =>
    build(arch, fresh),
  );
  return { loader: join(dir, "zoo-loader"), objects: dir };
}
