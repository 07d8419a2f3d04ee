/** Access of these tests to the machine: its kernel's BTF, bpftool, and a BPF compiler. */
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { labBpftoolDir } from "../../lab-dir.ts";

const VMLINUX = "/sys/kernel/btf/vmlinux";

preferLabBpftool();

/**
 * Puts the lab's bpftool 7.8 (`bun run lab bpftool` builds it) in PATH before the system's, which may be older and may lack
 * the BPF skeletons that `pids` needs. Prints once which bpftool is used.
 */
function preferLabBpftool(): void {
  const chosen = "KTSTR_TEST_BPFTOOL";
  if (process.env[chosen] !== undefined) return;
  const folder = labBpftoolDir();
  if (existsSync(join(folder, "bpftool")))
    process.env["PATH"] = [folder, process.env["PATH"]].join(delimiter);
  const path = which("bpftool");
  process.env[chosen] = path ?? "";
  if (path === null) return;
  const version = Bun.spawnSync([path, "version"]).stdout.toString().trim().replaceAll("\n", ", ");
  console.warn(`compared with ${path}: ${version}`);
}

/** Finds a tool in the current PATH; `Bun.which` by default uses PATH as it was at the start of the process. */
export function which(tool: string): string | null {
  return Bun.which(tool, { PATH: process.env["PATH"] ?? "" });
}

/** Returns the reason why live comparisons cannot run here, or "". Throws instead if KTSTR_REQUIRE_LIVE=1. */
export function liveSkipReason(...tools: string[]): string {
  const missing = existsSync(VMLINUX) ? tools.find((tool) => which(tool) === null) : VMLINUX;
  const why =
    missing === undefined ? (tools.includes("bpftool") ? oldBpftool() : "") : `${missing} is missing`;
  if (why === "") return "";
  if (process.env["KTSTR_REQUIRE_LIVE"] === "1") throw new Error(`KTSTR_REQUIRE_LIVE=1, but ${why}`);
  console.warn(`skipped: ${why}`);
  return why;
}

/** Timeout in milliseconds of a test that visits all of the kernel's types, or compiles them, on a busy machine. */
export const LONG_MS = 120_000;

export const vmlinuxBytes = (): Uint8Array => readFileSync(VMLINUX);

/** Runs a program and returns its standard output. Throws if it fails. */
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

/** Returns the reason why the bpftool in PATH is no reference, or "": older ones lack keys and commands. */
export function oldBpftool(): string {
  const version = Bun.spawnSync([which("bpftool")!, "version"]).stdout.toString();
  const [, major = 0, minor = 0] = (/v(\d+)\.(\d+)/.exec(version) ?? []).map(Number);
  return major > 7 || (major === 7 && minor >= 8)
    ? ""
    : `bpftool ${major}.${minor} is older than 7.8, which \`bun run lab bpftool\` builds`;
}
