/** `ktstr top` on a terminal, tested by its screen, and as lines. Costs are compared with bpftool's counters. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bpftoolJson, CLI, kernelSkipReason, ktstr, parseExact, spawn } from "../live/bpftool.ts";
import { type Held, type HeldMap, Kit } from "../live/kit.ts";
import { loadProg, testRun, usesMaps } from "../live/kit-progs.ts";
import { topProblems } from "../report/schema.ts";
import { Terminal } from "./support/tmux.ts";

const KTSTR = `${process.execPath} ${CLI}`;
const NAME = `t${process.pid}`;

interface TopLine {
  readonly seconds: number;
  readonly programs: readonly {
    readonly id: number;
    readonly name: string;
    readonly calls_per_second: number;
    readonly ns_per_call?: number;
    readonly cpu_percent: number;
    readonly run_cnt: number;
    readonly run_time_ns: number;
  }[];
  readonly maps: readonly { readonly id: number; readonly entries?: number }[];
}

/** Finds the process that runs `top`, by its command line. */
function topPid(mark: string): number | undefined {
  const found = spawn(["sh", "-c", `grep -alF -- '${mark}' /proc/[0-9]*/cmdline 2>/dev/null`]).out;
  for (const [, pid = ""] of found.matchAll(/^\/proc\/(\d+)\//gm)) {
    const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
    if (words[1] === CLI && words[2] === "top") return Number(pid);
  }
  return undefined;
}

const hasStatsEnabled = (pid: number): boolean =>
  spawn(["ls", "-l", `/proc/${pid}/fd`]).out.includes("bpf-stats");

describe.skipIf(kernelSkipReason("tmux") !== "")("ktstr top", () => {
  const kit = new Kit();
  let prog: Held;
  let map: HeldMap;
  let busy: Timer;

  beforeAll(() => {
    map = kit.map({ type: "hash", name: NAME, maxEntries: 10 });
    kit.fill(map, 4);
    prog = loadProg(kit, { type: "socket_filter", name: NAME, code: usesMaps(map) });
    busy = setInterval(() => testRun(prog, 500), 50);
  });
  afterAll(() => {
    clearInterval(busy);
    kit[Symbol.dispose]();
  });

  const started = async (terminal: Terminal, ...more: string[]): Promise<string> => {
    terminal.type(`${KTSTR} top --interval 0.2 ${more.join(" ")}`);
    return await terminal.until(/Programs by CPU%(.*\n)+.*\d \S+ +t\d+ /);
  };
  const rowOf = (text: string): string => text.split("\n").find((line) => line.includes(` ${NAME} `)) ?? "";

  test("shows a program that runs: calls, time, history, and its page with its map", async () => {
    using terminal = new Terminal(80, 24);
    await started(terminal);
    const text = await terminal.until((screen) => /[▁-█]{3}/.test(rowOf(screen)));
    const row = new RegExp(` ${prog.id} socket_fi… ${NAME} +[\\d.]+ +[\\d,.]+ +[\\d,.]+ +[▁-█]+ +0$`);
    expect(rowOf(text)).toMatch(row);
    const calls = Number(/(\S+) +\S+ +[▁-█]+ +0$/.exec(rowOf(text))?.[1]?.replaceAll(",", ""));
    // 500 calls every 50 ms or less often.
    expect(calls).toBeGreaterThan(500);
    expect(calls).toBeLessThan(15_000);
    terminal.keys("/");
    terminal.keys(...NAME);
    await terminal.until(`/${NAME}_`);
    terminal.keys("Enter");
    await terminal.until(
      (screen) => screen.split("\n").filter((line) => /^[> ] +\d+ /.test(line)).length === 1,
    );
    terminal.keys("Enter");
    const page = await terminal.until(`Program ${prog.id}  ${NAME}  socket_filter`);
    expect(page).toContain("Uses 1 map\n");
    expect(page).toContain("No attachment found\n");
    expect(page).toMatch(new RegExp(`map ${map.id}  ${NAME}  hash  4 of 10 entries`));
    expect(page).toMatch(/Calls\/s +[\d,.]+ +[▁-█]+/);
  });

  test("shows maps by fill, the scheduler, the help", async () => {
    using terminal = new Terminal(80, 24);
    await started(terminal);
    terminal.keys("m");
    await terminal.until(/Maps by FILL%/);
    terminal.keys("/");
    terminal.keys(...NAME, "Enter");
    const maps = await terminal.until(/Maps by FILL%.* with "t\d+": 1/);
    expect(rowOf(maps)).toMatch(new RegExp(` ${map.id} hash +${NAME} +4 +40.0 +0 `));
    kit.fill(map, 9);
    await terminal.until((screen) => / 9 +90.0 /.test(rowOf(screen)));
    terminal.keys("s");
    await terminal.until(/no sched_ext|Scheduler {2}/);
    terminal.keys("?");
    expect(await terminal.until(/Keys\n/)).toContain("q, Ctrl-C      quit");
    terminal.keys("p");
    await terminal.until(/Programs by CPU%/);
    terminal.keys("Right");
    expect(await terminal.until(/Programs by CALLS\/S/)).toContain("*CALLS/S");
  });

  test("a paused screen does not change", async () => {
    using terminal = new Terminal(80, 24);
    await started(terminal);
    terminal.keys("Space");
    const before = await terminal.until("PAUSED");
    await Bun.sleep(1000);
    expect(terminal.text()).toBe(before);
    terminal.keys("Space");
    await terminal.until((screen) => !screen.includes("PAUSED") && rowOf(screen) !== rowOf(before));
  });

  test("fills a screen whose size changes", async () => {
    using terminal = new Terminal(80, 24);
    await started(terminal);
    for (const [columns, rows] of [
      [120, 40],
      [50, 12],
      [80, 24],
    ] as const) {
      terminal.resize(columns, rows);
      const text = await terminal.until((screen) => {
        const lines = screen.split("\n").slice(0, rows);
        const count = (what: string): number => lines.filter((line) => line.startsWith(what)).length;
        const isWhole =
          (lines[rows - 1] ?? "").startsWith("Enter open") && (lines[0] ?? "").startsWith("ktstr top");
        return isWhole && count("ktstr top") === 1 && count("Programs by") === 1;
      });
      for (const line of text.split("\n")) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(columns);
    }
  });

  for (const [how, end] of [
    ["q", (terminal: Terminal) => terminal.keys("q")],
    ["Ctrl-C", (terminal: Terminal) => terminal.keys("C-c")],
    ...(["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"] as const).map(
      (signal) => [signal, (_: Terminal, pid: number) => process.kill(pid, signal)] as const,
    ),
  ] as const)
    test(`${how} restores the terminal, and disables statistics`, async () => {
      using terminal = new Terminal(80, 24);
      terminal.type("echo before");
      await terminal.until(/^before/m);
      const mark = `0.2${how.length}${Date.now() % 1000}`;
      terminal.type(`${KTSTR} top --interval ${mark}; echo "status $?"`);
      await terminal.until("Programs by");
      const pid = topPid(mark)!;
      expect(terminal.modes).toEqual({ alternate: true, cursor: false });
      expect(hasStatsEnabled(pid)).toBe(true);
      end(terminal, pid);
      const after = await terminal.until("status 0");
      expect(after).toMatch(/^before/m);
      expect(after).not.toContain("Programs by");
      expect(terminal.modes).toEqual({ alternate: false, cursor: true });
      expect(hasStatsEnabled(pid)).toBe(false);
      terminal.type("stty -a");
      expect(await terminal.until(/ icanon/)).toMatch(/[^-]echo /);
    });

  test("statistics are off after SIGKILL", async () => {
    using terminal = new Terminal(80, 24);
    const mark = `0.2777${Date.now() % 1000}`;
    terminal.type(`${KTSTR} top --interval ${mark}`);
    await terminal.until("Programs by");
    const pid = topPid(mark)!;
    expect(hasStatsEnabled(pid)).toBe(true);
    process.kill(pid, "SIGKILL");
    await terminal.until("Killed");
    expect(hasStatsEnabled(pid)).toBe(false);
  });

  test("Ctrl-Z and SIGTSTP restore the terminal for the shell, and `fg` continues", async () => {
    using terminal = new Terminal(80, 24);
    const mark = `0.2888${Date.now() % 1000}`;
    terminal.type(`${KTSTR} top --interval ${mark}`);
    await terminal.until("Programs by");
    const pid = topPid(mark)!;
    for (const stop of [() => terminal.keys("C-z"), () => process.kill(pid, "SIGTSTP")]) {
      stop();
      await terminal.until("Stopped");
      expect(terminal.modes).toEqual({ alternate: false, cursor: true });
      terminal.type("clear; fg");
      await terminal.until("Programs by");
      expect(terminal.modes).toEqual({ alternate: true, cursor: false });
    }
    terminal.keys("q");
    await terminal.until(() => !terminal.modes.alternate);
  });

  test("an uncaught error restores the terminal, and is printed", async () => {
    using terminal = new Terminal(80, 24);
    const script = join(kit.directory, "throws.ts");
    const screen = new URL("../../src/commands/screen.ts", import.meta.url).pathname;
    writeFileSync(
      script,
      `import { Screen } from ${JSON.stringify(screen)};
const screen = new Screen({ onKey: () => { throw new Error("thrown in a key"); }, onRedraw() {}, onEnd() {} });
screen.draw(["drawn"]);`,
    );
    terminal.type(`${process.execPath} ${script}`);
    await terminal.until("drawn");
    expect(terminal.modes.alternate).toBe(true);
    terminal.keys("x");
    await terminal.until("thrown in a key");
    expect(terminal.modes).toEqual({ alternate: false, cursor: true });
  });

  test("NO_COLOR: no styles; without it the selected row is highlighted", async () => {
    const isStyled = /\u001b\[[0-9;]*m/;
    using plain = new Terminal(80, 24, { NO_COLOR: "1" });
    await started(plain);
    expect(plain.styled()).not.toMatch(isStyled);
    using styled = new Terminal(80, 24, { NO_COLOR: "" });
    await started(styled);
    expect(styled.styled()).toMatch(isStyled);
  });

  test("without a terminal it is an error with a hint", () => {
    const ran = ktstr(["top"]);
    expect([ran.status, ran.out]).toEqual([2, ""]);
    expect(ran.err).toContain("standard output is not a terminal");
    expect(ran.err).toContain("-b prints rounds as lines");
  });

  test("-j: bpftool's counters, and the rates computed from them", () => {
    const before = Number(
      (bpftoolJson("prog", "show", "id", String(prog.id)) as { run_cnt?: number }).run_cnt ?? 0,
    );
    const ran = ktstr(["-j", "top", "--interval", "0.3", "--rounds", "3"]);
    const after = bpftoolJson("prog", "show", "id", String(prog.id)) as {
      run_cnt: number;
      run_time_ns: number;
    };
    const lines = ran.out.trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    const rounds = lines.map((line) => parseExact(line) as TopLine);
    for (const round of rounds) expect(topProblems(round)).toEqual([]);
    const mine = rounds.map(({ programs }) => programs.find(({ id }) => id === prog.id)!);
    expect(mine[0]!.run_cnt).toBeGreaterThanOrEqual(before);
    expect(mine[2]!.run_cnt).toBeLessThanOrEqual(after.run_cnt);
    for (const [index, { seconds }] of rounds.entries()) {
      const [was, now] = [mine[index - 1], mine[index]!];
      if (was === undefined) continue;
      expect(now.calls_per_second * seconds).toBeCloseTo(now.run_cnt - was.run_cnt, 3);
      expect((now.cpu_percent / 100) * seconds * 1e9).toBeCloseTo(now.run_time_ns - was.run_time_ns, 0);
    }
  });

  test("-b and --once: lines with the programs that ran", () => {
    const ran = ktstr(["top", "-b", "--rounds", "2", "--interval", "0.2"]);
    expect(
      ran.out.match(/^\d\d:\d\d:\d\d {2}[\d,]+ programs, \d+ ran, CPU [\d.]+%; [\d,]+ maps, /gm),
    ).toHaveLength(2);
    const once = ktstr(["top", "--once", "--interval", "0.2"]);
    expect([once.status, once.out.match(/programs, /g)?.length]).toEqual([0, 1]);
    expect(ktstr(["top", "-b", "--rounds", "x"]).status).toBe(2);
  });

  test("--replay shows the record, on a screen and as lines", async () => {
    const path = join(kit.directory, "r.ktstr");
    expect(ktstr(["record", "-o", path, "--interval", "0.1", "--for", "0.6"]).status).toBe(0);
    const ran = ktstr(["-j", "top", "--replay", path]);
    const rounds = ran.out
      .trimEnd()
      .split("\n")
      .map((line) => parseExact(line) as TopLine);
    expect(rounds.length).toBeGreaterThan(2);
    const last = rounds.at(-1)?.programs.find(({ id }) => id === prog.id);
    const theirs = bpftoolJson("prog", "show", "id", String(prog.id)) as { run_cnt: number };
    expect(last?.run_cnt).toBeLessThanOrEqual(theirs.run_cnt);
    expect(last?.run_cnt).toBeGreaterThan(0);
    using terminal = new Terminal(80, 24);
    terminal.type(`${KTSTR} top --replay ${path}`);
    const count = rounds.length + 1;
    await terminal.until(new RegExp(`PAUSED(.*\\n)+.*round ${count} of ${count}`));
    terminal.keys("[");
    await terminal.until(`round ${count - 1} of ${count}`);
    terminal.keys("]");
    await terminal.until(`round ${count} of ${count}`);
    expect(ktstr(["top", "-b", "--replay", path, "--sample"]).status).toBe(2);
  });
});
