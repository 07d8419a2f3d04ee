/** `bun run build [--arch x64|arm64]... [--out DIR]`: builds ktstr as one file that needs only libc. */
import { mkdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { bunFor } from "../test/lab/ktstr.ts";
import { patchStack } from "./patch-stack.ts";

const TARGETS = {
  /** Without AVX2, for machines from before 2013 and emulated ones. */
  x64: { arch: "amd64", target: "bun-linux-x64-baseline" },
  arm64: { arch: "arm64", target: "bun-linux-arm64" },
} as const;
type Arch = keyof typeof TARGETS;

const project = join(import.meta.dir, "..");

/**
 * Builds one executable and returns its path. `bun`: path of the Bun executable to embed; by default, npm's baseline build for the
 * architecture is downloaded. Throws `LabError` if it cannot be downloaded.
 */
export async function buildExecutable(arch: Arch, outDir: string, bun?: string): Promise<string> {
  const outfile = join(outDir, `ktstr-linux-${arch}`);
  const { arch: packageArch, target } = TARGETS[arch];
  await mkdir(outDir, { recursive: true });
  const built = await Bun.build({
    entrypoints: [join(project, "src/cli.ts")],
    minify: { whitespace: true, syntax: true, identifiers: false },
    // Bytecode, split by command, halves the start-up time.
    format: "esm",
    splitting: true,
    bytecode: true,
    compile: {
      target,
      outfile,
      executablePath: bun ?? (await bunFor(packageArch)),
      // Files in the current folder are not trusted.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadTsconfig: false,
      autoloadPackageJson: false,
    },
  });
  if (!built.success) throw new AggregateError(built.logs, `build ${outfile}`);
  await patchStack(outfile);
  return outfile;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { arch: { type: "string", multiple: true }, out: { type: "string", default: "dist" } },
  });
  const wanted = values.arch ?? Object.keys(TARGETS);
  for (const name of wanted) {
    const arch = (Object.keys(TARGETS) as Arch[]).find((one) => one === name);
    if (arch === undefined) throw new Error(`--arch ${name}: neither x64 nor arm64`);
    const path = await buildExecutable(arch, resolve(values.out));
    console.log(`${path}  ${((await stat(path)).size / 2 ** 20).toFixed(1)} MiB`);
  }
}
