/** Objects whose holder ktstr cannot find: in a running guest, and in its memory. */
import { describe, expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { findOrphans } from "../../src/report/orphans.ts";
import { labSkipReason } from "./availability.ts";
import { type Guest, startGuest } from "./guest.ts";
import type { KernelName } from "./kernels.ts";
import { ktstrOverlay } from "./ktstr.ts";

const LOST = "no holder found";

function inMemory(guest: Guest): string[] {
  using state = openGuest({ memory: guest.memoryPath });
  return findOrphans(state);
}

async function living(guest: Guest): Promise<string[]> {
  const { stdout, stderr } = await guest.exec("cd /ktstr && bun run ktstr -j inspect --limit 0", 120_000);
  const text = new TextDecoder().decode(stdout);
  if (text === "") throw new Error(stderr);
  return (JSON.parse(text) as { warnings: string[] }).warnings.filter((sentence) => sentence.includes(LOST));
}

const kernels: readonly KernelName[] = ["6.1", "sid"];

describe.skipIf((await labSkipReason()) !== "").each(kernels)(
  "objects without a known holder, on %s",
  (kernel) => {
    test("a healthy guest has none; then a map in a socket's queue and a program on a socket are found, live and from memory", async () => {
      await using guest = await startGuest({
        kernel,
        memoryMiB: 1536,
        overlays: [await ktstrOverlay("amd64")],
      });
      expect(await living(guest)).toEqual([]);
      const started = await guest.exec(
        `cd /ktstr; (sleep 1000000 | bun test/live/lost-map.ts lost > /tmp/lost.json 2> /tmp/lost.err) > /dev/null 2>&1 &
for i in $(seq 600); do [ -s /tmp/lost.json ] && exec cat /tmp/lost.json; usleep 100000; done; cat /tmp/lost.err >&2; exit 1`,
        120_000,
      );
      expect(started).toMatchObject({ status: 0 });
      const { map, prog } = JSON.parse(new TextDecoder().decode(started.stdout)) as {
        map: number;
        prog: number;
      };
      const sentences = [`${LOST} for map ${map} (lost_map)`, `${LOST} for program ${prog} (lost_prog)`];
      expect(await living(guest)).toEqual(sentences);
      await guest.freeze();
      expect(inMemory(guest)).toEqual(sentences);
    }, 600_000);
  },
);
