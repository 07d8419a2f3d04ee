/** Ratios that were kept, and what became worse since. Times are not kept: they are the machine's. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const FILE = join(import.meta.dir, "baseline.json");
/** The part by which a ratio may be worse. */
const TOLERANCE = 0.15;

/** By a case's name. */
export type Baseline = Readonly<Record<string, number>>;

/** What is compared of a case. */
export interface Measured {
  readonly name: string;
  readonly ratio: number;
  /** As a part of the ratio. */
  readonly noise: number;
}

export interface Comparison {
  /** Got worse, and by more than the noise explains. */
  readonly worse: readonly string[];
  /** Seems worse, in noise that may have made it so. */
  readonly unsure: readonly string[];
  readonly unknown: readonly string[];
}

export function readBaseline(): Baseline {
  return JSON.parse(readFileSync(FILE, "utf8")) as Baseline;
}

/** Puts the rows' ratios over those that are there. */
export function saveBaseline(rows: readonly Measured[]): void {
  const all: Record<string, number> = { ...readBaseline() };
  for (const { name, ratio } of rows) all[name] = Number(ratio.toFixed(3));
  writeFileSync(FILE, `${JSON.stringify(all, null, 2)}\n`);
}

/** A sentence for each case that is not as it was; one that got better is no news. */
export function compare(before: Baseline, rows: readonly Measured[]): Comparison {
  const worse: string[] = [];
  const unsure: string[] = [];
  const unknown: string[] = [];
  for (const { name, ratio, noise } of rows) {
    const kept = before[name];
    if (kept === undefined) {
      unknown.push(`${name}: not in the baseline`);
      continue;
    }
    const change = ratio / kept - 1;
    if (change <= TOLERANCE) continue;
    const sentence = `${name}: ${kept} before, ${ratio.toFixed(3)} now: ${percent(change)} worse, noise ±${percent(noise)}`;
    (noise > change / 2 ? unsure : worse).push(sentence);
  }
  return { worse, unsure, unknown };
}

const percent = (part: number): string => `${(part * 100).toFixed(0)} %`;

export function printComparison({ worse, unsure, unknown }: Comparison, print: (line: string) => void): void {
  for (const line of unknown) print(line);
  for (const line of unsure) print(`unsure: ${line}`);
  for (const line of worse) print(`WORSE: ${line}`);
  if (worse.length === 0) print(`nothing got worse by more than ${percent(TOLERANCE)}`);
}
