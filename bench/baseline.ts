/** Saved ratios, and a comparison with them. Times are not saved, because they depend on the machine. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const FILE = join(import.meta.dir, "baseline.json");
/** Share by which a ratio may increase. */
const TOLERANCE = 0.15;

/** By the name of the case. */
export type Baseline = Readonly<Record<string, number>>;

/** The compared values of a case. */
export interface Measured {
  readonly name: string;
  readonly ratio: number;
  /** As a share of the ratio. */
  readonly noise: number;
}

export interface Comparison {
  /** Sentences about cases whose increase is larger than the noise. */
  readonly worse: readonly string[];
  /** Sentences about cases whose increase may be noise. */
  readonly unsure: readonly string[];
  /** Sentences about cases that have no saved ratio. */
  readonly unknown: readonly string[];
}

export function readBaseline(): Baseline {
  return JSON.parse(readFileSync(FILE, "utf8")) as Baseline;
}

/** Saves the ratios of the rows. Keeps the saved ratios of other cases. */
export function saveBaseline(rows: readonly Measured[]): void {
  const all: Record<string, number> = { ...readBaseline() };
  for (const { name, ratio } of rows) all[name] = Number(ratio.toFixed(3));
  writeFileSync(FILE, `${JSON.stringify(all, null, 2)}\n`);
}

/** Compares ratios with the saved ones. Cases that were not measured are ignored. */
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
