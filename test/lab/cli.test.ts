import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { memoryMiB } from "./cli.ts";

async function lab(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "cli.ts"), ...args], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { status, out, err };
}

describe("bun run lab", () => {
  test.each([
    [["boot", "--bogus"], "--bogus"],
    [["boot", "--kernel", "5.4"], "not one of sid"],
    [["boot", "--cpus", "0"], "--cpus 0"],
    [["boot", "--memory", "lots"], "--memory lots"],
    [["boot", "--stall", "nope"], "not one of healthy"],
    [["boot", "--stall", "loop", "--scheduler", "scx_sdt"], "cannot be combined"],
    [["boot", "--stall", "healthy", "--ejected"], "--ejected"],
    [["matrix", "--row", "nope"], "--row nope"],
    [["nope"], "no such command"],
    [["toString"], "no such command"],
  ])("%p is wrong usage: status 2 and a sentence", async (args, sentence) => {
    const { status, out, err } = await lab(...args);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain(sentence);
    expect(err).not.toContain("    at ");
  });

  test("--help explains on standard output", async () => {
    const { status, out } = await lab("boot", "--help");
    expect(status).toBe(0);
    expect(out).toContain("bun run lab boot --kernel sid --cpus 4 --memory 3G --scheduler scx_flatcg");
  });

  test("a scheduler on a kernel without sched_ext is refused before anything is fetched", async () => {
    const { status, err } = await lab(
      "boot",
      "--kernel",
      "6.1",
      "--scheduler",
      "scx_sdt",
      "--out",
      "/nowhere/frozen",
    );
    expect(status).toBe(1);
    expect(err).toContain("the kernel has no sched_ext");
  });
});

test("sizes are in G or M", () => {
  expect(memoryMiB("3G")).toBe(3072);
  expect(memoryMiB("512m")).toBe(512);
  expect(() => memoryMiB("512")).toThrow("--memory 512");
});
