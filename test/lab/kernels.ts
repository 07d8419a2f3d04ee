/** Fetches Debian's kernels by the lab's names: package, boot image, modules, and the BTF in the boot image. */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "./cache.ts";
import { type Arch, dependsOf, describe, packagesLike, packageTree, type Suite } from "./packages.ts";
import { LabError, run } from "./process.ts";

/** Names of the lab's kernels. A name stands for Debian's newest release of the series. */
export type KernelName =
  | "sid"
  | "sid-rt"
  | "sid-cloud"
  | "7.3"
  | "7.2"
  | "7.1"
  | "7.0"
  | "6.19"
  | "6.18"
  | "6.17"
  | "6.16"
  | "6.12"
  | "6.1"
  | "5.10"
  | "arm64"
  | "arm64-16k";

interface KernelSource {
  readonly suite: Suite;
  readonly arch: Arch;
  /** The metapackage of the suite's newest kernel. If undefined, the newest package of the series in the kernel's name. */
  readonly meta?: string;
  /** `CONFIG_SCHED_CLASS_EXT=y`. */
  readonly hasSchedExt: boolean;
}

const backport: KernelSource = { suite: "trixie-backports", arch: "amd64", hasSchedExt: true };

export const kernelSources: { readonly [name in KernelName]: KernelSource } = {
  sid: { suite: "sid", arch: "amd64", meta: "linux-image-amd64", hasSchedExt: true },
  "sid-rt": { suite: "sid", arch: "amd64", meta: "linux-image-rt-amd64", hasSchedExt: true },
  "sid-cloud": { suite: "sid", arch: "amd64", meta: "linux-image-cloud-amd64", hasSchedExt: true },
  "7.3": backport,
  "7.2": backport,
  "7.1": backport,
  "7.0": backport,
  "6.19": backport,
  "6.18": backport,
  "6.17": backport,
  "6.16": backport,
  "6.12": { suite: "trixie", arch: "amd64", meta: "linux-image-amd64", hasSchedExt: false },
  "6.1": { suite: "bookworm", arch: "amd64", meta: "linux-image-amd64", hasSchedExt: false },
  "5.10": { suite: "bullseye", arch: "amd64", meta: "linux-image-amd64", hasSchedExt: false },
  arm64: { suite: "sid", arch: "arm64", meta: "linux-image-arm64", hasSchedExt: true },
  "arm64-16k": { suite: "sid", arch: "arm64", meta: "linux-image-arm64-16k", hasSchedExt: true },
};

export const kernelNames = Object.keys(kernelSources) as KernelName[];

export interface Kernel {
  readonly name: KernelName;
  readonly arch: Arch;
  readonly suite: Suite;
  /** `uname -r`. */
  readonly release: string;
  /** The boot image for QEMU's `-kernel`. */
  readonly image: string;
}

/** Returns the release in a metapackage's `Depends`: "linux-image-7.2.13+deb14-amd64" -> "7.2.13+deb14-amd64". */
export function releaseIn(depends: readonly string[]): string | undefined {
  for (const name of depends) {
    const release = /^linux-image-(\d.*)$/.exec(name)?.[1];
    if (release !== undefined) return release;
  }
  return undefined;
}

/**
 * Returns the newest release of a series among package names, without flavour: for "6.16", "linux-image-6.16.12+deb13-amd64"
 * -> "6.16.12+deb13-amd64". Backports keep all of their releases, and their metapackage follows the newest series.
 */
export function newestOf(series: string, arch: Arch, packages: readonly string[]): string | undefined {
  const pattern = new RegExp(`^linux-image-(${RegExp.escape(series)}\\.(\\d+)\\+deb\\d+-${arch})$`);
  let newest: { readonly release: string; readonly patch: number } | undefined;
  for (const name of packages) {
    const [, release, patch] = pattern.exec(name) ?? [];
    if (release === undefined || Number(patch) <= (newest?.patch ?? -1)) continue;
    newest = { release, patch: Number(patch) };
  }
  return newest?.release;
}

async function releaseOf(name: KernelName): Promise<string> {
  const { suite, arch, meta } = kernelSources[name];
  const release =
    meta === undefined
      ? newestOf(name, arch, await packagesLike(suite, arch, /^linux-image-/))
      : releaseIn(dependsOf(await describe(suite, arch, meta)));
  if (release !== undefined) return release;
  throw new LabError(`lab: ${suite} (${arch}) has no kernel image for ${meta ?? name}`);
}

/** Returns a kernel. Fetches it if it is not in the cache. */
export async function fetchKernel(name: KernelName): Promise<Kernel> {
  const { suite, arch } = kernelSources[name];
  const release = await releaseOf(name);
  // Since 7.x the image's package is empty and depends on linux-binary-V. Before, it has all files.
  const parts = dependsOf(await describe(suite, arch, `linux-image-${release}`));
  const binary = parts.includes(`linux-binary-${release}`)
    ? `linux-binary-${release}`
    : `linux-image-${release}`;
  const tree = await packageTree(suite, arch, [binary], {
    only: ["./boot/vmlinuz-*", `./usr/lib/modules/${release}/vmlinuz`],
  });
  const places = [
    join(tree, "boot", `vmlinuz-${release}`),
    join(tree, "usr/lib/modules", release, "vmlinuz"),
  ];
  const image = places.find((path) => existsSync(path));
  if (image === undefined) throw new LabError(`lab: ${binary} has no vmlinuz`);
  return { name, arch, suite, release, image };
}

/** Returns the paths of a kernel's modules, xz-compressed or not. Fetches them if they are not in the cache. */
export async function fetchModules(kernel: Kernel, names: readonly string[]): Promise<string[]> {
  const parts = dependsOf(await describe(kernel.suite, kernel.arch, `linux-image-${kernel.release}`));
  const split = `linux-modules-${kernel.release}`;
  const from = parts.includes(split) ? split : `linux-image-${kernel.release}`;
  const tree = await packageTree(kernel.suite, kernel.arch, [from], {
    only: names.map((name) => `*/${name}.ko*`),
  });
  const inside = await readdir(tree, { recursive: true });
  return names.map((name) => {
    const path = inside.find((entry) => new RegExp(`/${name}\\.ko(\\.xz)?$`).test(entry));
    if (path === undefined) throw new LabError(`lab: ${from} has no module ${name}`);
    return join(tree, path);
  });
}

/** Returns the path of a raw file with the kernel's BTF, which is extracted from its boot image. */
export async function kernelBtf(kernel: Kernel): Promise<string> {
  const path = join(labDir(), "btf", `${kernel.release}-${keyOf(kernel.image)}.btf`);
  return cached(path, async (fresh) => {
    const btf = carveBtf(await decompressImage(new Uint8Array(await readFile(kernel.image))));
    if (btf === undefined) throw new LabError(`lab: ${kernel.image} contains no BTF`);
    await mkdir(join(labDir(), "btf"), { recursive: true });
    await writeFile(fresh, btf);
  });
}

/**
 * Unpacks a boot image: decompresses the payload of a bzImage, or returns the bytes unchanged (arm64's Image).
 * Documentation/arch/x86/boot.rst: `payload_offset` (0x248) is relative to the protected-mode code, which follows
 * `setup_sects` (0x1f1) + 1 sectors; `payload_length` is at 0x24c.
 */
async function decompressImage(image: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (view.getUint32(0x202, true) !== 0x53726448) return image;
  const start = ((image[0x1f1] || 4) + 1) * 512 + view.getUint32(0x248, true);
  // The last four bytes are the size of the unpacked kernel. They are not part of the stream.
  const payload = image.slice(start, start + view.getUint32(0x24c, true) - 4);
  const magic = new DataView(payload.buffer).getUint32(0, false);
  if (magic === 0xfd377a58) return run(["xz", "-dc", "--single-stream"], { input: payload });
  if (magic === 0x28b52ffd) return run(["zstd", "-dc"], { input: payload });
  if (magic >>> 16 === 0x1f8b) return Bun.gunzipSync(payload);
  throw new LabError(
    `lab: the kernel's payload starts with ${magic.toString(16)}: no compression that the lab knows`,
  );
}

/** Returns the largest range of bytes that starts with a `struct btf_header` whose sections are inside the bytes. */
export function carveBtf(bytes: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  const haystack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = Buffer.from([0x9f, 0xeb, 0x01, 0x00]);
  let best: Uint8Array<ArrayBuffer> | undefined;
  for (let at = haystack.indexOf(magic); at >= 0; at = haystack.indexOf(magic, at + 4)) {
    if (at + 24 > haystack.length) break;
    const headerSize = haystack.readUInt32LE(at + 4);
    const typesEnd = haystack.readUInt32LE(at + 8) + haystack.readUInt32LE(at + 12);
    const stringsOffset = haystack.readUInt32LE(at + 16);
    const end = at + headerSize + stringsOffset + haystack.readUInt32LE(at + 20);
    const plausible =
      headerSize >= 24 && headerSize < 256 && typesEnd <= stringsOffset && end <= haystack.length;
    if (!plausible || haystack[at + headerSize + stringsOffset] !== 0) continue;
    if (best === undefined || end - at > best.length) best = bytes.slice(at, end) as Uint8Array<ArrayBuffer>;
  }
  return best;
}
