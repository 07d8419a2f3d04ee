/** `metrics` and `report` while a sched_ext scheduler runs, compared with the kernel's own counters before and after. */
import { describe, expect, test } from "bun:test";
import { labSkipReason } from "./availability.ts";
import { type Guest, startGuest } from "./guest.ts";
import { fetchKernel } from "./kernels.ts";
import { ktstrOverlay } from "./ktstr.ts";
import { loadOverlay, startScheduler } from "./load.ts";

const SLOW_MS = 900_000;

async function run(guest: Guest, command: string): Promise<string> {
  const { status, stdout, stderr } = await guest.exec(command);
  if (status !== 0) throw new Error(`${command}: status ${status}: ${stderr}`);
  return new TextDecoder().decode(stdout);
}

/** Parses `SCX_EV_... N` lines of the kernel. */
const kernelEvents = async (guest: Guest): Promise<Map<string, number>> =>
  new Map(
    (await run(guest, "cat /sys/kernel/sched_ext/root/events"))
      .trim()
      .split("\n")
      .map((line) => line.split(/\s+/))
      .map(([name = "", count]) => [name, Number(count)]),
  );

describe.skipIf((await labSkipReason()) !== "")("a running scheduler", () => {
  test(
    "its events in `metrics` are between the kernel's own, and `report` has it",
    async () => {
      const overlays = [
        await loadOverlay({ schedulers: ["scx_simple"], zoo: false }, await fetchKernel("sid")),
        await ktstrOverlay("amd64"),
      ];
      await using guest = await startGuest({ kernel: "sid", memoryMiB: 1536, overlays });
      await startScheduler(guest, "scx_simple");
      const before = await kernelEvents(guest);
      const metrics = await run(guest, "cd /ktstr && bun run ktstr metrics --once");
      const after = await kernelEvents(guest);
      const told = [...metrics.matchAll(/^ktstr_sched_ext_events_total\{event="(\w+)"\} (\d+)$/gm)];
      expect(told.map(([, name]) => name)).toEqual([...before.keys()]);
      expect(told.length).toBeGreaterThan(8);
      for (const [, name = "", count] of told) {
        expect(Number(count)).toBeGreaterThanOrEqual(before.get(name) ?? 0);
        expect(Number(count)).toBeLessThanOrEqual(after.get(name) ?? 0);
      }
      expect([...after.values()].some((count) => count > 0)).toBe(true);
      const ops = (await run(guest, "cat /sys/kernel/sched_ext/root/ops")).trim();
      expect(metrics).toContain(`ktstr_sched_ext_info{state="enabled",ops="${ops}"} 1\n`);
      const page = await run(guest, "cd /ktstr && bun run ktstr report -o -");
      expect(page).toContain(`<small>${ops} enabled`);
      for (const name of before.keys()) expect(page).toContain(name);
      // From /proc/kcore: facts that /sys does not have.
      expect(page).toContain("<h3>CPUs ");
      expect(page).toContain("<h3>Tasks ");
    },
    SLOW_MS,
  );
});
