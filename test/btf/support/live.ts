/** What the tests of this room take from the machine: its kernel's BTF, bpftool, and a BPF compiler. */
import { existsSync, readFileSync } from "node:fs";

const VMLINUX = "/sys/kernel/btf/vmlinux";

/** Why live comparisons cannot run here; "" where they can. Throws where they were promised (KTSTR_REQUIRE_LIVE=1). */
export function whyNoLive(...tools: string[]): string {
  const missing = existsSync(VMLINUX) ? tools.find((tool) => Bun.which(tool) === null) : VMLINUX;
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
  const done = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe", timeout: 120_000 });
  if (!done.success)
    throw new Error(`${command.join(" ")}: ${done.stderr.toString() || `exit ${done.exitCode}`}`);
  return done.stdout.toString();
}
