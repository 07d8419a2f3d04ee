/** Listings of a thousand maps, with many and with few descriptors. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { openLive } from "../../src/live/live.ts";
import { bpftoolJson, kernelSkipReason, ktstr, ktstrJson, missing, only } from "./bpftool.ts";
import { fdCount, type HeldMap, Kit } from "./kit.ts";

const COUNT = 1000;

describe.skipIf(kernelSkipReason("prlimit") !== "")("a thousand maps", () => {
  const kit = new Kit();
  let maps: HeldMap[] = [];
  let ids: number[] = [];
  beforeAll(() => {
    maps = Array.from({ length: COUNT }, (_, n) =>
      kit.map({ type: "array", name: `many_${n}`, maxEntries: 1 }),
    );
    ids = maps.map(({ id }) => id);
    using live = openLive({ keep: () => false });
    live.maps(); // the first call keeps a file of /proc open
  });
  afterAll(() => kit[Symbol.dispose]());

  test("are listed as in bpftool", () => {
    const theirs = only(bpftoolJson("map", "show"), ids).map((map) => {
      const { btf_id: _, ...rest } = map as Record<string, unknown>; // of another map, see maps.test.ts
      return rest;
    });
    const mine = only(ktstrJson("map", "show"), ids);
    expect(mine).toHaveLength(COUNT);
    expect(missing(mine, theirs)).toEqual([]);
  });

  test("leave no descriptor open if none is kept", () => {
    const before = fdCount();
    {
      using live = openLive({ keep: ({ id }) => id === ids[7] });
      expect(live.maps().length).toBeGreaterThanOrEqual(COUNT);
      expect(fdCount()).toBe(before + 1);
    }
    expect(fdCount()).toBe(before);
  });

  test("are all held if all are kept, and all released", () => {
    const before = fdCount();
    {
      using live = openLive();
      const { length } = live.maps();
      expect(fdCount()).toBe(before + length);
      for (const map of live.maps()) {
        if (ids.includes(map.id)) expect(live.readArray(map, 0).ok).toBe(true);
      }
      expect(fdCount()).toBe(before + length);
    }
    expect(fdCount()).toBe(before);
  });

  test("do not fit in a small descriptor table: an error if all are held, none if they are listed", () => {
    const under = ["prlimit", "--nofile=100:100"];
    const listing = ktstr(["-j", "map", "show"], { under });
    expect([listing.status, listing.err]).toEqual([0, ""]);
    expect(only(JSON.parse(listing.out), ids)).toHaveLength(COUNT);
    const one = ktstr(["-j", "map", "dump", "id", String(ids[999])], { under });
    expect([one.status, one.err]).toEqual([0, ""]);
    const holding = ktstr(["inspect"], { under });
    expect([holding.status, holding.out]).toEqual([1, ""]);
    expect(holding.err).toMatch(
      /^ktstr: error: BPF_MAP_GET_FD_BY_ID map \d+: EMFILE \(errno 24\)\. [^\n]*RLIMIT_NOFILE[^\n]*\n$/,
    );
  });

  test("are listed completely or not at all: with one descriptor left there is none for fdinfo", () => {
    const script = `
      import { openLive } from ${JSON.stringify(new URL("../../src/index.ts", import.meta.url).pathname)};
      import { closeSync, openSync } from "node:fs";
      using _warm = openLive();
      const held = [];
      try { for (;;) held.push(openSync("/dev/null")); } catch {}
      const list = (free) => {
        while (free-- > 0) closeSync(held.pop());
        try {
          using live = openLive({ keep: () => false });
          const own = live.maps().filter(({ id }) => ${JSON.stringify(ids)}.includes(id));
          return own.length === ${COUNT} && own.every((map) => map.memlockBytes > 0) && live.warnings.length === 0;
        } catch (error) { return error.message + " " + error.hint; }
      };
      console.log(list(1));
      console.log(list(1));`;
    const ran = Bun.spawnSync(["prlimit", "--nofile=100:100", process.execPath, "-e", script]);
    const [short, enough] = ran.stdout.toString().split("\n");
    expect(short).toMatch(/^open \/proc\/self\/fdinfo\/\d+: EMFILE \(errno 24\) .*RLIMIT_NOFILE/);
    expect(enough).toBe("true");
  });

  test("give the same error in the library", () => {
    const script = `
      import { openLive } from ${JSON.stringify(new URL("../../src/index.ts", import.meta.url).pathname)};
      import { readdirSync } from "node:fs";
      const count = () => readdirSync("/proc/self/fd").length;
      { using live = openLive({ keep: () => false }); live.maps(); }
      const before = count();
      try { using live = openLive(); live.maps(); } catch (error) { console.log(error.name, error.code, error.command); }
      console.log(count() - before);`;
    const ran = Bun.spawnSync(["prlimit", "--nofile=100:100", process.execPath, "-e", script]);
    expect(ran.stdout.toString()).toBe("SyscallError EMFILE BPF_MAP_GET_FD_BY_ID\n0\n");
  });
});
