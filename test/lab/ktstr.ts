/** Packs Bun and this project for a guest: `/ktstr` with the sources and their packages, `/bin/bun` with its libraries. */
import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { cached, labDir } from "./cache.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import { withLibraries } from "./initramfs.ts";
import type { Arch } from "./packages.ts";
import { LabError, run, tool } from "./process.ts";

const project = join(import.meta.dir, "../..");

const bunPackage: { readonly [arch in Arch]: string } = {
  amd64: "@oven/bun-linux-x64-baseline",
  arm64: "@oven/bun-linux-aarch64",
};

/** Returns the path of Bun for the guest's architecture, from its npm package, in the version that runs the lab. */
export async function bunFor(arch: Arch): Promise<string> {
  const name = `${bunPackage[arch]}@${Bun.version}`;
  const dir = await cached(join(labDir(), "bun", `${arch}-${Bun.version}`), async (fresh) => {
    const packed = `${fresh}.pack`;
    await run(["mkdir", "-p", fresh, packed]);
    try {
      const hint = "npm fetches Bun for guests once; later boots have it in the cache";
      await run([tool("npm"), "pack", name, "--silent", "--pack-destination", packed], { hint });
      const [archive] = await readdir(packed);
      if (archive === undefined) throw new LabError(`lab: npm pack ${name} wrote no archive`);
      await run(["tar", "-xzf", join(packed, archive), "-C", fresh, "--strip-components=1"]);
    } finally {
      await rm(packed, { recursive: true, force: true });
    }
  });
  return join(dir, "bin/bun");
}

async function folder(from: string, to: string, wanted: (path: string) => boolean): Promise<CpioEntry[]> {
  const entries: CpioEntry[] = [];
  for (const name of await readdir(from, { recursive: true })) {
    const path = join(from, name);
    if (!wanted(name) || !(await stat(path)).isFile()) continue;
    entries.push({ kind: "file", path: join(to, name), data: new Uint8Array(await readFile(path)) });
  }
  return entries;
}

/** Returns an archive for the guest, in which `cd /ktstr && bun run ktstr inspect` and `bun test test/live` then work. */
export async function ktstrOverlay(arch: Arch): Promise<Uint8Array> {
  const entries = await withLibraries({ from: await bunFor(arch), to: "bin/bun" }, arch);
  for (const name of ["package.json", "bunfig.toml", "tsconfig.json"])
    entries.push({
      kind: "file",
      path: `ktstr/${name}`,
      data: new Uint8Array(await readFile(join(project, name))),
    });
  for (const name of ["src", "test"])
    entries.push(...(await folder(join(project, name), `ktstr/${name}`, isOurs)));
  const { dependencies } = JSON.parse(await readFile(join(project, "package.json"), "utf8")) as {
    dependencies: { [name: string]: string };
  };
  for (const name of Object.keys(dependencies))
    entries.push(
      ...(await folder(join(project, "node_modules", name), `ktstr/node_modules/${name}`, isNeeded)),
    );
  return cpio(entries);
}

/** Returns whether the file is copied. The lab is not: it is not used inside guests. */
const isOurs = (name: string): boolean => name.endsWith(".ts") && !name.startsWith("lab/");

const isNeeded = (name: string): boolean => /\.(m?js|cjs|json)$/.test(name);
