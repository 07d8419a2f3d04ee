import { describe, expect, test } from "bun:test";
import { collectAnswers } from "./answers.ts";
import { labSkipReason } from "./availability.ts";
import { type Guest, startGuest } from "./guest.ts";
import { fetchKernel } from "./kernels.ts";
import { ktstrOverlay } from "./ktstr.ts";
import { loadOverlay, startScheduler, stopScheduler } from "./load.ts";

/** libbpf cuts the object's name to 8 bytes before a suffix of up to 7 (internal_map_name). */
const bss = "scx_simp.bss";

interface Listed {
  readonly id: number;
  readonly name?: string;
}

async function json(guest: Guest, command: string): Promise<unknown> {
  const { status, stdout, stderr } = await guest.exec(`cd /ktstr && ${command}`);
  if (status !== 0) throw new Error(`${command}: status ${status}: ${stderr}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

async function bssIds(guest: Guest): Promise<number[]> {
  const maps = (await json(guest, "bpftool -j map show")) as Listed[];
  return maps.filter(({ name }) => name === bss).map(({ id }) => id);
}

describe.skipIf((await labSkipReason()) !== "")("the scheduler swap", () => {
  test("a pin keeps the old .bss next to the new one, and the active scheduler is the new one", async () => {
    const overlays = [
      await loadOverlay({ schedulers: ["scx_simple"], zoo: false }, await fetchKernel("sid")),
      await ktstrOverlay("amd64"),
    ];
    await using guest = await startGuest({ kernel: "sid", memoryMiB: 1536, overlays });
    await startScheduler(guest, "scx_simple");
    const [old = 0] = await bssIds(guest);
    const pin = await guest.exec(`cd /ktstr
bun run ktstr pin ${bss} > /tmp/pin.log 2>&1 & echo $! > /tmp/pin.pid
for i in $(seq 300); do grep -q "holding map ${old} " /tmp/pin.log && exit 0; usleep 100000; done
cat /tmp/pin.log >&2; exit 1`);
    expect(pin).toMatchObject({ status: 0, stderr: "" });
    await stopScheduler(guest, "scx_simple");
    await guest.exec("sleep 1");
    expect(await bssIds(guest)).toEqual([old]);
    await startScheduler(guest, "scx_simple");
    const both = await bssIds(guest);
    const [, fresh = 0] = both;
    expect(both).toEqual([old, fresh]);

    const shown = (await json(guest, `bun run ktstr -j map show name ${bss}`)) as Listed[] | Listed;
    expect([shown].flat().map(({ id }) => id)).toEqual(both);
    const { scheduler } = (await json(guest, "bun run ktstr inspect --json")) as {
      scheduler: { ops: string; object: string; map_ids: number[] };
    };
    expect([scheduler.ops, scheduler.object]).toEqual(["simple", "scx_simp"]);
    // The oracle for the maps of its own programs: the kernel's answer about the running struct_ops programs.
    const progs = (await json(guest, "bpftool -j prog show")) as { type: string; map_ids?: number[] }[];
    const used = new Set(
      progs.filter(({ type }) => type === "struct_ops").flatMap(({ map_ids }) => map_ids ?? []),
    );
    expect(used.has(fresh) && !used.has(old)).toBe(true);
    expect(scheduler.map_ids).toEqual(expect.arrayContaining([...used]));
    expect(scheduler.map_ids).not.toContain(old);

    await guest.exec("kill -INT $(cat /tmp/pin.pid); sleep 3");
    expect(await bssIds(guest)).toEqual([fresh]);
    expect((await collectAnswers(guest, `${guest.dir}/answers`)).dir).toContain(guest.dir);
  }, 600_000);
});
