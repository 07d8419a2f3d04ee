/** The screen of `top` as lines: for any names and any size, no line is too long and none has control characters. */
import { describe, expect, test } from "bun:test";
import { keysIn } from "../../src/commands/keys.ts";
import { History, type Rates, ratesBetween, sparkline } from "../../src/report/rates.ts";
import { fit } from "../../src/report/top-table.ts";
import { TopView } from "../../src/report/top-view.ts";
import type { MapFacts, ProgFacts, Round, SeriesFacts } from "../../src/round.ts";

const FACTS: SeriesFacts = {
  source: "the running kernel",
  kernel: { release: "7.2", machine: "x86_64", possibleCpus: 2, onlineCpus: 2, bootTimeUnixNs: undefined },
  globals: ["a.bss:\u001b[2J"],
};
const prog = (id: number, name: string): ProgFacts => ({
  id,
  type: "xdp",
  name,
  tag: "0123456789abcdef",
  loadTimeNs: BigInt(id),
  mapIds: [7],
});
const HOSTILE = "\u001b[2J\r\n\u202ename\u009b1m";
const WIDE = "漢字漢字漢字漢字漢字";
const progs = [
  prog(1, "one"),
  prog(2, HOSTILE),
  prog(3, WIDE),
  ...Array.from({ length: 40 }, (_, n) => prog(n + 10, `p${n}`)),
];
const map: MapFacts = { id: 7, type: "hash", name: HOSTILE, keySize: 4, valueSize: 8, maxEntries: 100 };

/** Round of one second, in which program N ran 100 * N times for N us each. */
function round(second: number): Round {
  return {
    atMs: second * 1000,
    unixMs: 0,
    pauseMs: 10,
    progs: progs.map((facts) => ({
      facts,
      counters: {
        count: BigInt(second * 100 * facts.id),
        runTimeNs: BigInt(second * 100 * facts.id * facts.id * 1000),
        misses: BigInt(second * facts.id),
      },
    })),
    maps: [{ facts: map, entries: second * 20, bytes: 4096 }],
    links: [{ id: 5, type: "xdp", progId: 2, place: `on ${HOSTILE}` }],
    sched: {
      state: "enabled",
      ops: HOSTILE,
      enableSeq: 1n,
      events: [{ name: "SCX_EV_A", count: BigInt(second * 5) }],
      queues: [{ name: "0x1", length: 3 }],
      waits: [{ pid: 1, comm: HOSTILE, cpu: 0, waitMs: 12 }],
    },
    globals: [HOSTILE],
  };
}

const style = { heading: (text: string) => text, dim: (text: string) => text, alarm: (text: string) => text };

function view(rounds = 3): TopView {
  const made = new TopView({ facts: FACTS, intervalMs: 1000, style, isReplay: true });
  for (let second = 1; second < rounds; second++) {
    const rates = ratesBetween(round(second - 1), round(second));
    made.history.add(rates);
    made.show(rates);
  }
  return made;
}

describe("rates", () => {
  const rates: Rates = ratesBetween(round(1), round(3));

  test("are per second, over the time between two rounds", () => {
    expect(rates.seconds).toBe(2);
    expect(rates.progs[1]).toMatchObject({ callsPerSecond: 200, nsPerCall: 2000, missesPerSecond: 2 });
    expect(rates.progs[1]?.cpuShare).toBeCloseTo(0.0004, 10);
    expect(rates.maps[0]).toMatchObject({ entries: 60, fill: 0.6, growthPerSecond: 20 });
    expect(rates.sched?.events).toEqual([{ name: "SCX_EV_A", count: 15n, perSecond: 5 }]);
  });

  test("a program that was loaded between the rounds counts from 0, and so does a new one with the same id", () => {
    const before: Round = {
      ...round(1),
      progs: round(1)
        .progs.slice(1, 2)
        .map((one) => ({ ...one, facts: { ...one.facts, loadTimeNs: 99n } })),
    };
    const [first, second] = ratesBetween(before, round(2)).progs;
    expect([first?.callsPerSecond, second?.callsPerSecond]).toEqual([200, 400]);
  });

  test("of the first round, of a round at the same time, and of decreased counters are 0", () => {
    for (const one of [
      ratesBetween(undefined, round(2)),
      ratesBetween(round(2), round(2)),
      ratesBetween(round(3), { ...round(2), atMs: 9000 }),
    ])
      for (const { cpuShare, callsPerSecond, nsPerCall } of one.progs)
        expect([cpuShare, callsPerSecond, nsPerCall]).toEqual([0, 0, undefined]);
  });
});

test("the highest value of a history is a full block, and a missing value is a blank", () => {
  expect(sparkline([0, 1, 2, Number.NaN, 4], 6)).toBe(" ▁▃▅ █");
  expect(sparkline([1, 2, 3, 4], 2)).toBe("▆█");
  const history = new History();
  for (let second = 1; second < 300; second++) history.add(ratesBetween(round(second - 1), round(second)));
  expect(history.ofProg(progs[0]!).cpuShare).toHaveLength(120);
});

test("text fits its columns, even with letters that are two columns wide", () => {
  expect(fit("abc", 5, true)).toBe("abc  ");
  expect(fit("abc", 5, false)).toBe("  abc");
  expect(fit("abcdef", 5, true)).toBe("abcd…");
  for (const width of [0, 1, 2, 3, 7]) expect(Bun.stringWidth(fit(WIDE, width, true))).toBe(width);
});

test("no page has a line that is too long, or a control character", () => {
  for (const [columns, rows] of [
    [80, 24],
    [40, 10],
    [200, 60],
    [10, 3],
    [1, 1],
  ] as const)
    for (const keys of [[], ["m"], ["s"], ["?"], ["down", "enter"], ["/", ...HOSTILE], ["end", "enter"]]) {
      const one = view();
      for (const key of keys) one.key(key);
      const lines = one.lines(columns, rows);
      expect(lines).toHaveLength(rows);
      for (const line of lines) {
        expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
        expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
      }
    }
});

const rowsOf = (one: TopView): string[] =>
  one
    .lines(80, 24)
    .slice(4, -1)
    .map((line) => line.trim());
const names = (one: TopView): string[] =>
  rowsOf(one).map((line) => /^>?\s*\d+ \S+\s+(\S+)/.exec(line)?.[1] ?? "");

test("programs are sorted by CPU share, or by the selected column", () => {
  const one = view();
  expect(names(one).slice(0, 3)).toEqual(["p39", "p38", "p37"]);
  one.key("r");
  expect(names(one).slice(0, 2)).toEqual(["one", "\\x1b[2J\\x0d\\x…"]);
  one.key("r");
  for (const key of ["<", "<", "<"]) one.key(key);
  expect(one.lines(80, 24)[2]).toContain("Programs by ID");
  expect(names(one)[0]).toBe("one");
});

test("a filter can be typed and cleared", () => {
  const one = view();
  for (const key of ["/", "P", "3", "x", "backspace", "enter"]) one.key(key);
  expect(
    names(one)
      .filter((name) => name !== "")
      .sort(),
  ).toEqual(["p3", ...Array.from({ length: 10 }, (_, n) => `p3${n}`)].sort());
  // After Enter, keys are commands again.
  expect(one.key("q")).toBe("quit");
  one.key("escape");
  expect(names(one)).toHaveLength(19);
});

test("the selected row stays on its program when the order changes, and opens", () => {
  const one = view();
  for (const key of ["down", "down"]) one.key(key);
  const chosen = (): string | undefined => rowsOf(one).find((line) => line.startsWith(">"));
  expect(chosen()).toContain("p37");
  one.key("r");
  one.key("r");
  expect(chosen()).toContain("p37");
  one.key("end");
  expect(chosen()).toContain("one");
  one.key("enter");
  expect(one.lines(80, 24).join("\n")).toContain("Program 1  one  xdp  tag 0123456789abcdef");
  expect(one.lines(80, 24).join("\n")).toContain("No link attaches it");
  one.places = ["by cgroup /a, cgroup_inet_ingress"];
  expect(one.lines(80, 24).join("\n")).toContain("Run by cgroup /a, cgroup_inet_ingress");
  one.key("escape");
  expect(chosen()).toContain("one");
});

test("keys are recognized by the terminal's sequences", () => {
  expect(keysIn("a\u001b[A\u001bOB\r\u0003")).toEqual(["a", "up", "down", "enter", "ctrl-c"]);
  expect(keysIn("\u001b")).toEqual(["escape"]);
  expect(keysIn("\u001b[6~é\u007f\u001b[99;5u")).toEqual(["pagedown", "é", "backspace"]);
});
