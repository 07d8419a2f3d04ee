/** Prints rounds of `top -b` as lines of text. */
import { escapeText } from "../text.ts";
import { stringify } from "./json.ts";
import type { Output } from "./output.ts";
import type { ProgRate, Rates } from "./rates.ts";
import { rateText } from "./rows.ts";
import { percentText } from "./top-table.ts";
import { countText, totalSizeText } from "./units.ts";

/** Prints a summary line, then one line per program that ran, by descending cost. `names`: names of the variables. */
export function writeTopRound(out: Output, rates: Rates, names: readonly string[], time: string): void {
  const { progs, maps, sched, pauseMs } = rates;
  const ran = progs
    .filter(({ callsPerSecond, missesPerSecond }) => callsPerSecond > 0 || missesPerSecond > 0)
    .sort((a, b) => b.cpuShare - a.cpuShare);
  const share = progs.reduce((all, { cpuShare }) => all + cpuShare, 0);
  const memory = totalSizeText(maps.map(({ bytes }) => bytes));
  const parts = [
    `${time}  ${countText(progs.length)} programs, ${countText(ran.length)} ran, CPU ${percentText(share)}%`,
    `${countText(maps.length)} maps, ${memory}`,
    ...(sched === undefined ? [] : [`sched_ext ${escapeText(`${sched.state} ${sched.ops}`.trim())}`]),
    ...(pauseMs === undefined ? [] : [`paused ${pauseMs.toFixed(1)} ms`]),
  ];
  out.line(parts.join("; "));
  if (ran.length > 0) out.line("      ID   CPU%    CALLS/S    NS/CALL   MISS/S  TYPE              NAME");
  for (const prog of ran) out.line(progLine(prog));
  for (const { name, perSecond } of sched?.events ?? [])
    if (perSecond > 0) out.line(`  ${rateText(perSecond)}/s ${escapeText(name)}`);
  for (const [index, name] of names.entries()) {
    const value = rates.globals[index];
    out.line(
      `  ${escapeText(name)} = ${value === undefined ? "not present" : escapeText(typeof value === "string" ? value : stringify(value))}`,
    );
  }
  out.line();
}

function progLine({ facts, cpuShare, callsPerSecond, nsPerCall, missesPerSecond }: ProgRate): string {
  const numbers = [
    String(facts.id).padStart(8),
    percentText(cpuShare).padStart(6),
    rateText(callsPerSecond).padStart(10),
    (nsPerCall === undefined ? "-" : rateText(nsPerCall)).padStart(10),
    rateText(missesPerSecond).padStart(8),
  ];
  return `${numbers.join(" ")}  ${escapeText(facts.type).padEnd(16)}  ${escapeText(facts.name)}`;
}
