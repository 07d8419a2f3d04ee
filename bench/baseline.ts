/** Ratios that were kept, and what became worse since. Times are not kept: they are the machine's. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Row } from "./measure.ts";

const FILE = join(import.meta.dir, "baseline.json");
/** The part by which a ratio may be worse. */
const TOLERANCE = 0.15;

function readBaseline(): Record<string, number> {
  return JSON.parse(readFileSync(FILE, "utf8")) as Record<string, number>;
}

/** Puts the rows' ratios over those that are there. */
export function saveBaseline(rows: readonly Row[]): void {
  const all = readBaseline();
  for (const { name, ratio } of rows) all[name] = Number(ratio.toFixed(3));
  writeFileSync(FILE, `${JSON.stringify(all, null, 2)}\n`);
}

/** Says which cases got worse, and with which noise; true where none did. */
export function compare(rows: readonly Row[], print: (line: string) => void): boolean {
  const before = readBaseline();
  let isFine = true;
  for (const { name, ratio, noise } of rows) {
    const kept = before[name];
    if (kept === undefined) {
      print(`${name}: not in the baseline`);
      continue;
    }
    const change = ratio / kept - 1;
    if (change <= TOLERANCE) continue;
    const figures = `${kept} before, ${ratio.toFixed(3)} now: ${(change * 100).toFixed(0)} % worse, noise ±${(noise * 100).toFixed(0)} %`;
    if (noise > change / 2) print(`unsure: ${name}: ${figures}`);
    else {
      isFine = false;
      print(`WORSE: ${name}: ${figures}`);
    }
  }
  if (isFine) print(`nothing got worse by more than ${TOLERANCE * 100} %`);
  return isFine;
}
