/**
 * Run by `npm pack`: the command as one file, `dist/cli.js`, and beside it what the engine made of it at build time, which
 * halves the time to start. The Bun that runs it takes `cli.js.jsc` where it is of its own version, else parses the file.
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
    // Installed beside it, and loaded by one command.
    external: ["@alexaltea/capstone-js"],
    // The sample is in the package once: where the sources have it.
    publicPath: "../sample/",
    naming: { asset: "[name].[ext]" },
  });
  for (const output of outputs) {
    if (output.kind !== "asset") await Bun.write(join(folder, output.path), output);
  }
}

if (import.meta.main) await buildPackage(join(project, "dist"));
