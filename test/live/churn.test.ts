/** Listings, walks and dumps while another process changes maps. */
import { afterAll, describe, expect, test } from "bun:test";
import { type LiveState, openLive } from "../../src/live/live.ts";
import type { EntryCursor, MapInfo } from "../../src/state.ts";
import { kernelSkipReason, ktstr } from "./bpftool.ts";
import { fdCount, type HeldMap, Kit } from "./kit.ts";

const CHURNER = new URL("./churner.ts", import.meta.url).pathname;
const NO_PREALLOC = 1;
const STABLE = 3000;

/** Starts the churner in a second process, which ends with the kit. */
async function churn(kit: Kit, ...words: string[]): Promise<void> {
  const child = Bun.spawn([process.execPath, CHURNER, ...words], { stdout: "pipe", stderr: "inherit" });
  kit.defer(() => child.kill("SIGKILL"));
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  expect(Buffer.from(value ?? new Uint8Array()).toString()).toBe("ready\n");
}

/** Fills keys below a million, which the churner does not touch: 32 in the low half, the number in the high one. */
function fillStable(kit: Kit, map: HeldMap): void {
  const key = new Uint8Array(8);
  const view = new DataView(key.buffer);
  for (let n = 0; n < STABLE; n++) {
    view.setUint32(0, 32, true);
    view.setUint32(4, n, true);
    kit.update(map, key, new Uint8Array(8));
  }
}

interface Seen {
  readonly stable: Map<number, number>;
  readonly total: number;
  readonly end: EntryCursor["end"];
}

function walk(live: LiveState, map: MapInfo): Seen {
  const contents = live.contents(map);
  if (contents.kind !== "entries") throw new Error(`${contents.kind}, not entries`);
  using cursor = contents.cursor;
  const stable = new Map<number, number>();
  let total = 0;
  while (cursor.next()) {
    total++;
    const at = cursor.keyBytes.byteOffset + cursor.keyOffset;
    const number = new DataView(cursor.keyBytes.buffer, at, 8).getUint32(4, true);
    if (number < STABLE) stable.set(number, (stable.get(number) ?? 0) + 1);
  }
  return { stable, total, end: cursor.end };
}

const LONGEST_MS = 30_000;

/**
 * Repeats walks for about a second, so that changes by the churner occur in every phase of a walk. Takes longer if the churner did
 * not run during this time.
 */
function repeatForASecond(run: () => void, hasSeenChurn: () => boolean): void {
  const start = performance.now();
  let elapsed = 0;
  while (elapsed < 1000 || (!hasSeenChurn() && elapsed < LONGEST_MS)) {
    run();
    elapsed = performance.now() - start;
  }
}

describe.skipIf(kernelSkipReason() !== "")("while a second process changes the kernel", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());

  test("maps that are created and freed cause no warning, leave no descriptor, and hide no other map", async () => {
    using own = new Kit();
    const mine = Array.from({ length: 20 }, () => own.map({ type: "array" }).id);
    await churn(own, "maps");
    {
      using live = openLive({ keep: () => false });
      live.maps();
    }
    const before = fdCount();
    let churned = 0;
    repeatForASecond(
      () => {
        using live = openLive();
        const maps = live.maps();
        const ids = maps.map(({ id }) => id);
        expect(ids.filter((id) => mine.includes(id))).toEqual(mine);
        expect(ids).toEqual([...ids].sort((a, b) => a - b));
        expect(live.warnings).toEqual([]);
        for (const map of maps) {
          if (!Buffer.from(map.name).toString().startsWith("churn")) continue;
          churned++;
          expect(live.readArray(map, 0).ok).toBe(true); // held, so readable after its owner freed it
        }
      },
      () => churned > 0,
    );
    expect(churned).toBeGreaterThan(0);
    expect(fdCount()).toBe(before);
  });

  for (const type of ["hash", "lru_hash"] as const) {
    test(`keys of a ${type} that are added and deleted hide no stable key, and show none twice`, async () => {
      using own = new Kit();
      const map = own.map({ type, keySize: 8, valueSize: 8, maxEntries: 20_000 });
      fillStable(own, map);
      await churn(own, "keys", own.pin(map, type));
      using live = openLive({ keep: ({ id }) => id === map.id });
      const info = live.map(map.id);
      const totals = new Set<number>();
      repeatForASecond(
        () => {
          const { stable, total, end } = walk(live, info);
          totals.add(total);
          if (!end.complete) expect(end.stopped).not.toBe("");
          else expect(stable.size).toBe(STABLE);
          expect(Math.max(...stable.values())).toBe(1);
        },
        () => totals.size > 1,
      );
      expect(totals.size).toBeGreaterThan(1); // the churner changed the map
    });
  }

  test("a trie is walked key by key, ends, and reports what it missed", async () => {
    using own = new Kit();
    const options = { type: "lpm_trie", keySize: 8, valueSize: 8, maxEntries: 10_000 } as const;
    const map = own.map({ ...options, flags: NO_PREALLOC });
    fillStable(own, map);
    await churn(own, "keys", own.pin(map, "trie"));
    using live = openLive({ keep: ({ id }) => id === map.id });
    const info = live.map(map.id);
    let eventful = 0;
    repeatForASecond(
      () => {
        const { total, end } = walk(live, info);
        expect(total).toBeLessThanOrEqual(2 * options.maxEntries + 1);
        if (end.skipped.size > 0 || !end.complete) eventful++;
        if (!end.complete) expect(end.stopped === "" && end.skipped.size === 0).toBe(false);
      },
      () => eventful > 0,
    );
    expect(eventful).toBeGreaterThan(0);
  });

  test("the dump of a map that grows during the dump ends, and is valid JSON", async () => {
    using own = new Kit();
    const map = own.map({ type: "hash", keySize: 8, valueSize: 8, maxEntries: 50_000, flags: NO_PREALLOC });
    fillStable(own, map);
    await churn(own, "grow", own.pin(map, "growing"));
    for (let n = 0; n < 3; n++) {
      const ran = ktstr(["-j", "map", "dump", "id", String(map.id)]);
      const entries = JSON.parse(ran.out) as { key: string[] }[];
      expect(entries.length).toBeGreaterThanOrEqual(STABLE);
      expect(new Set(entries.map(({ key }) => key.join())).size).toBe(entries.length);
      expect([0, 1]).toContain(ran.status);
      if (ran.status === 1) expect(ran.err).toContain("incomplete");
      else expect(ran.err).toBe("");
    }
  });

  test("a map that is freed while it is dumped is dumped completely, because it is held", () => {
    const own = new Kit();
    const map = own.map({ type: "hash", keySize: 8, valueSize: 8, maxEntries: 10_000 });
    fillStable(own, map);
    using live = openLive({ keep: ({ id }) => id === map.id });
    const info = live.map(map.id);
    const contents = live.contents(info);
    if (contents.kind !== "entries") throw new Error("entries expected");
    using cursor = contents.cursor;
    expect(cursor.next()).toBe(true);
    own[Symbol.dispose]();
    let count = 1;
    while (cursor.next()) count++;
    expect([count, cursor.end.complete]).toEqual([STABLE, true]);
  });
});
