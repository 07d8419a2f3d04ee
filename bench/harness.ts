/** Shared code of the benchmarks: references in C, runs of whole commands, and tables of ratios. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { labBpftoolDir } from "../test/lab-dir.ts";

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Returns a command's standard output. Throws if it fails. */
export function output(...command: readonly string[]): string {
  const done = Bun.spawnSync([...command], { stderr: "inherit" });
  if (!done.success) throw new Error(`${command.join(" ")}: exit ${done.exitCode}`);
  return done.stdout.toString();
}

/** Creates a folder. Disposal removes it with its contents. */
export function scratchFolder(parent: string = tmpdir()): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(parent, "ktstr-bench-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

/** Compiles `bench/reference/NAME.c` with `cc -O2`, once per folder, and returns the path of the program. */
export function compileReference(name: string, folder: string, ...libraries: readonly string[]): string {
  const program = join(folder, name);
  if (existsSync(program)) return program;
  output("cc", "-O2", "-o", program, join(import.meta.dir, `reference/${name}.c`), ...libraries);
  return program;
}

/** One run of a whole command, with its output in a file. */
export interface CommandRun {
  readonly wallMs: number;
  /** User and system time of the process. */
  readonly cpuMs: number;
}

export async function runCommand(command: readonly string[], into: string): Promise<CommandRun> {
  const start = performance.now();
  const child = Bun.spawn([...command], { stdout: Bun.file(into), stderr: "pipe" });
  const code = await child.exited;
  const wallMs = performance.now() - start;
  const said = await new Response(child.stderr).text();
  if (code !== 0) throw new Error(`${command.join(" ")}: exit ${code}: ${said.trim().slice(0, 500)}`);
  const usage = child.resourceUsage();
  if (usage === undefined) throw new Error(`${command.join(" ")}: no resource usage`);
  return { wallMs, cpuMs: Number(usage.cpuTime.total) / 1000 };
}

/** Runs a command of Bun once, and returns the peak of its resident memory in MB (peak.ts). */
export function peakOf([bun = "", ...words]: readonly string[]): number {
  const done = Bun.spawnSync([bun, "--preload", join(import.meta.dir, "peak.ts"), ...words], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const kilobytes = /^peak (\d+)$/m.exec(done.stderr.toString())?.[1];
  if (!done.success || kilobytes === undefined) throw new Error(`${words.join(" ")}: exit ${done.exitCode}`);
  return (Number(kilobytes) * 1024) / 1e6;
}

const labBpftool = join(labBpftoolDir(), "bpftool");
/** bpftool 7.8 with skeletons if `bun run lab bpftool` built it, else the machine's own, which prints no `pids`. */
export const BPFTOOL: string = existsSync(labBpftool) ? labBpftool : "bpftool";

/** The command line of ktstr from source. */
export const KTSTR: readonly string[] = [process.execPath, join(import.meta.dir, "../src/cli.ts")];
