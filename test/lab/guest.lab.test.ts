import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { labSkipReason } from "./availability.ts";
import { startGuest } from "./guest.ts";
import { GuestDied } from "./guest-watch.ts";

const bootMs = 300_000;

/** Returns the command lines of processes that contain `text`. */
async function processesWith(text: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (line.includes(text) && line.includes("qemu-system")) found.push(line.replaceAll("\0", " "));
  }
  return found;
}

describe.skipIf((await labSkipReason()) !== "")("a guest", () => {
  test(
    "runs scripts with their status and both outputs, does not run while frozen, and leaves nothing behind",
    async () => {
      let dir = "";
      {
        await using guest = await startGuest({ kernel: "sid" });
        dir = guest.dir;
        const result = await guest.exec("printf 'a\\n@@1 0 0 0\\n'; echo no >&2; exit 7");
        expect([result.status, new TextDecoder().decode(result.stdout), result.stderr]).toEqual([
          7,
          "a\n@@1 0 0 0\n",
          "no\n",
        ]);
        await guest.freeze();
        expect(await guest.qmp("query-status")).toMatchObject({ running: false });
        const hash = async (): Promise<bigint | number> => Bun.hash(await Bun.file(guest.memoryPath).bytes());
        const before = await hash();
        await Bun.sleep(300);
        expect(await hash()).toBe(before);
        await guest.thaw();
        expect((await guest.exec("true")).status).toBe(0);
      }
      expect(existsSync(dir)).toBe(false);
      expect(await processesWith(dir)).toEqual([]);
    },
    bootMs,
  );

  test(
    "that panics is a GuestDied with its console kept, for every pending call",
    async () => {
      await using guest = await startGuest({ kernel: "6.1" });
      const died = await guest.exec("echo c > /proc/sysrq-trigger").catch((error: unknown) => error);
      expect(died).toBeInstanceOf(GuestDied);
      const { message, consolePath } = died as GuestDied;
      expect(message).toContain("Kernel panic - not syncing: sysrq triggered crash");
      expect(await readFile(consolePath, "utf8")).toContain("sysrq triggered crash");
      await rm(consolePath);
    },
    bootMs,
  );

  test(
    "that does not answer in time is a GuestDied, not a hang",
    async () => {
      await using guest = await startGuest({ kernel: "6.1" });
      const died = await guest.exec("sleep 1000", 1500).catch((error: unknown) => error);
      expect(died).toBeInstanceOf(GuestDied);
      expect(String(died)).toContain("no answer in 1.5 s");
      await rm((died as GuestDied).consolePath);
    },
    bootMs,
  );

  test.each(["SIGINT", "SIGKILL"] as const)(
    "ends with its lab on %s",
    async (signal) => {
      const dir = await mkdtemp(join(tmpdir(), "ktstr-stray-"));
      try {
        const cli = join(import.meta.dir, "cli.ts");
        const lab = Bun.spawn([process.execPath, cli, "boot", "--out", dir], {
          stdout: "ignore",
          stderr: "ignore",
        });
        for (let tries = 0; tries < 600 && (await processesWith(dir)).length === 0; tries++)
          await Bun.sleep(100);
        expect((await processesWith(dir)).length).toBe(1);
        lab.kill(signal);
        await lab.exited;
        for (let tries = 0; tries < 50 && (await processesWith(dir)).length > 0; tries++)
          await Bun.sleep(100);
        expect(await processesWith(dir)).toEqual([]);
      } finally {
        await rm(dir, { recursive: true, force: true });
      }
    },
    bootMs,
  );
});
