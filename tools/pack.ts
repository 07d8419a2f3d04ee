/**
 * `npm pack` runs this script. It bundles the command into one file, `dist/cli.js`, and writes its bytecode, `cli.js.jsc`, which
 * halves the start-up time. Bun uses the bytecode if the same version of Bun made it, and else parses the file.
 */
import { join } from "node:path";

const project = join(import.meta.dir, "..");

/** Writes the bundle and its bytecode to a folder. */
export async function buildPackage(folder: string): Promise<void> {
  const { outputs } = await Bun.build({
    entrypoints: [join(project, "src/cli.ts")],
    target: "bun",
    format: "cjs",
    bytecode: true,
    minify: { whitespace: true, syntax: true, identifiers: false },
    // npm installs it as a dependency. Only `prog dump jited` loads it.
    external: ["@alexaltea/capstone-js"],
    // The bundle reads the sample from the package's folder sample/, so that the package contains it only once.
    publicPath: "../sample/",
    naming: { asset: "[name].[ext]" },
  });
  for (const output of outputs) {
    if (output.kind !== "asset") await Bun.write(join(folder, output.path), output);
  }
}

if (import.meta.main) await buildPackage(join(project, "dist"));
