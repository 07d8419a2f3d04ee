/** What the tests of this room take from the machine: its kernel's BTF, bpftool, and a BPF compiler. */
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { labBpftoolDir } from "../../lab-dir.ts";

const VMLINUX = "/sys/kernel/btf/vmlinux";

preferLabBpftool();

/**
 * The lab's bpftool 7.8 (`bun run lab bpftool` builds it) is found before the machine's own, which may be older and
 * lacks the BPF skeletons that tell `pids`. Says once which bpftool the comparisons are made with.
 */
function preferLabBpftool(): void {
  const told = "KTSTR_TEST_BPFTOOL";
  if (process.env[told] !== undefined) return;
  const folder = labBpftoolDir();
  if (existsSync(join(folder, "bpftool")))
    process.env["PATH"] = [folder, process.env["PATH"]].join(delimiter);
  const path = which("bpftool");
  process.env[told] = path ?? "";
  if (path === null) return;
  const version = Bun.spawnSync([path, "version"]).stdout.toString().trim().replaceAll("\n", ", ");
  console.warn(`compared with ${path}: ${version}`);
}

/** `Bun.which` reads PATH as it was when the process began. */
export function which(tool: string): string | null {
  return Bun.which(tool, { PATH: process.env["PATH"] ?? "" });
}

/** Why live comparisons cannot run here; "" where they can. Throws where they were promised (KTSTR_REQUIRE_LIVE=1). */
export function whyNoLive(...tools: string[]): string {
  const missing = existsSync(VMLINUX) ? tools.find((tool) => which(tool) === null) : VMLINUX;
  if (missing === undefined) return "";
  const why = `${missing} is not there`;
  if (process.env["KTSTR_REQUIRE_LIVE"] === "1") throw new Error(`KTSTR_REQUIRE_LIVE=1, but ${why}`);
  console.warn(`skipped: ${why}`);
  return why;
}

/** Milliseconds for a test that goes through all of the kernel's types, or compiles them, on a machine that is busy. */
export const LONG_MS = 120_000;

export const vmlinuxBytes = (): Uint8Array => readFileSync(VMLINUX);

/** Runs a program to its end and gives its standard output; throws where it fails. */
export function run(...command: string[]): string {
  const done = Bun.spawnSync(command, {
    stdout: "pipe",
    stderr: "pipe",
    env: process.env,
    timeout: 120_000,
  });
  if (!done.success)
    throw new Error(`${command.join(" ")}: ${done.stderr.toString() || `exit ${done.exitCode}`}`);
  return done.stdout.toString();
}
