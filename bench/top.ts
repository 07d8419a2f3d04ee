/**
 * `bun bench/top.ts [PROGRAMS MAPS SECONDS]`: measures the CPU time and memory of `ktstr top` and of bpftop, which run on two
 * terminals of tmux at the same time. bpftop is measured if it is in PATH, or if BPFTOP has its path. Needs root and tmux.
 */
import { readFileSync } from "node:fs";
import { Terminal } from "../test/cli/support/tmux.ts";
import { Kit, u32 } from "../test/live/kit.ts";
import { loadProg, testRun, usesMaps } from "../test/live/kit-progs.ts";
import { KTSTR } from "./harness.ts";

const [progCount = 1000, mapCount = 1000, seconds = 30] = process.argv.slice(2).map(Number);
/** Number of programs that run ten times per second. */
const BUSY = 10;
/** Time until the engine has compiled the hot code. */
const WARM_MS = 20_000;
/** USER_HZ, the unit in /proc/PID/stat. */
const TICKS = 100;

using kit = new Kit();
const maps = Array.from({ length: mapCount }, (_, n) =>
  kit.map({ type: n % 2 === 0 ? "hash" : "array", name: `crowd_${n}`, maxEntries: 64 }),
);
const progs = Array.from({ length: progCount }, (_, n) => {
  const map = maps[n % mapCount];
  return loadProg(kit, {
    type: "socket_filter",
    name: `crowd_${n}`,
    code: usesMaps(...(map === undefined ? [] : [map])),
  });
});
let runs = 0;
const busy = setInterval(() => {
  for (const prog of progs.slice(0, BUSY)) testRun(prog, 100);
  const map = maps[(2 * runs++) % mapCount];
  if (map !== undefined) kit.update(map, u32(runs % 64), u32(runs));
}, 100);

const bpftop = process.env["BPFTOP"] ?? Bun.which("bpftop");
const sides: [string, string][] = [["ktstr top", `${KTSTR.join(" ")} top`]];
if (bpftop === null) console.warn("skipped: bpftop is not in PATH, and BPFTOP is not set");
else sides.push(["bpftop", bpftop]);

const terminals = sides.map(([name, command]) => {
  const terminal = new Terminal(120, 40);
  terminal.type(`exec ${command}`);
  return { name, terminal };
});
await Bun.sleep(WARM_MS);
const before = terminals.map(({ terminal }) => costOf(terminal.pid));
const started = performance.now();
await Bun.sleep(seconds * 1000);
const elapsed = (performance.now() - started) / 1000;
for (const [index, { name, terminal }] of terminals.entries()) {
  const { cpuSeconds, peakKib } = costOf(terminal.pid);
  const share = (100 * (cpuSeconds - before[index]!.cpuSeconds)) / elapsed;
  console.log(
    `${name}: ${share.toFixed(2)} % of a CPU, ${(peakKib / 1024).toFixed(1)} MiB at most, ${progCount} programs, ${mapCount} maps`,
  );
  if (!terminal.text().includes("crowd_"))
    console.log(`${name}: its screen shows none of these programs and maps:\n${terminal.text()}`);
  terminal[Symbol.dispose]();
}
clearInterval(busy);

function costOf(pid: number): { cpuSeconds: number; peakKib: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const [user, system] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13)
    .map(Number);
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
  return { cpuSeconds: ((user ?? 0) + (system ?? 0)) / TICKS, peakKib: Number(peak) };
}
