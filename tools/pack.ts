/**
 * Run by `npm pack`: bundles the command into one file, `dist/cli.js`, and its bytecode, `cli.js.jsc`, which halves the time to
 * start. Bun uses the bytecode if it was made by the same version, else it parses the file.
 */
import { join } from "node:path";

const project = join(import.meta.dir, "..");

/** Writes the command into a folder. */
export async function buildPackage(folder: string): Promise<void> {
  const { outputs } = await Bun.build({
    entrypoints: [join(project, "src/cli.ts")],
    target: "bun",
    format: "cjs",
    bytecode: true,
    minify: { whitespace: true, syntax: true, identifiers: false },
    // Installed as a dependency. Only one command loads it.
    external: ["@alexaltea/capstone-js"],
    // The package contains the sample once, in the folder of the sources.
    publicPath: "../sample/",
    naming: { asset: "[name].[ext]" },
  });
  for (const output of outputs) {
    if (output.kind !== "asset") await Bun.write(join(folder, output.path), output);
  }
}

if (import.meta.main) await buildPackage(join(project, "dist"));
