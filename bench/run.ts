/**
 * `bun run bench [PATTERN] [--rounds N] [--json] [--check] [--save]`: runs every case whose name contains PATTERN. Each side runs
 * in its own processes, which are started with `--job`.
 *
 * `--json`   prints a JSON document instead of the table
 * `--check`  compares with bench/baseline.json, and exits with 1 if a ratio got worse by more than 15 %
 * `--save`   writes the ratios to bench/baseline.json
 */
import { existsSync, readdirSync } from "node:fs";
import { cpus, setPriority } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { compare, printComparison, readBaseline, saveBaseline } from "./baseline.ts";
import type { Case, Suite } from "./case.ts";
import { scratchFolder } from "./harness.ts";
import { measureCase, type Row, runJob } from "./measure.ts";

interface Found {
  readonly file: string;
  readonly each: Case;
}

const HIGHEST_PRIORITY = -20;

async function findCases(pattern: string): Promise<Found[]> {
  const files = readdirSync(import.meta.dir).filter((name) => name.endsWith(".bench.ts"));
  const found: Found[] = [];
  for (const file of files.sort()) {
    const path = join(import.meta.dir, file);
    const { cases } = (await import(path)) as Suite;
    for (const each of cases) if (each.name.includes(pattern)) found.push({ file: path, each });
  }
  return found;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
      save: { type: "boolean", default: false },
      rounds: { type: "string", default: "7" },
    },
  });
  const pattern = positionals[0] ?? "";
  const found = await findCases(pattern);
  if (found.length === 0) {
    console.error(`no case's name contains ${JSON.stringify(pattern)}`);
    process.exitCode = 2;
    return;
  }
  // Processes of both sides inherit the priority.
  if (process.getuid?.() === 0) setPriority(HIGHEST_PRIORITY);
  const machine = { cpu: cpus()[0]?.model ?? "unknown CPU", cpus: cpus().length, bun: Bun.version };
  const print = values.json ? console.error : console.log;
  print(`${machine.cpu}, ${machine.cpus} CPUs, Bun ${machine.bun}\n${HEADER}`);
  // Uses a file system in memory if there is one, because the speed of a disk would hide differences between the sides.
  using folder = scratchFolder(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  const rows: Row[] = [];
  let failed = 0;
  for (const { file, each } of found) {
    const missing = (await each.missing?.()) ?? "";
    if (missing !== "") {
      print(`${each.name}: skipped, ${missing}`);
      continue;
    }
    try {
      const row = await measureCase(file, each, Number(values.rounds), folder.path);
      rows.push(row);
      print(lineOf(row));
    } catch (error) {
      failed++;
      print(`${each.name}: FAILED, ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (values.json) console.log(JSON.stringify({ machine, rows }, null, 2));
  if (failed > 0) process.exitCode = 1;
  if (values.check) {
    const comparison = compare(readBaseline(), rows);
    printComparison(comparison, print);
    if (comparison.worse.length > 0) process.exitCode = 1;
  }
  if (values.save) saveBaseline(rows);
}

const HEADER = `${"".padEnd(66)}     items   ours ns    ref. ns   ratio  ±%  first  target`;

function lineOf({ name, items, oursNs, referenceNs, ratio, noise, otherRatio, target, peak }: Row): string {
  const ns = (value: number): string => value.toPrecision(3).padStart(11);
  const verdict = target === undefined ? "" : `${target}${ratio <= target ? "" : " MISSED"}`;
  const cells = [
    name.padEnd(66),
    String(items).padStart(10),
    ns(oursNs),
    ns(referenceNs),
    ratio.toFixed(2).padStart(8),
    (noise * 100).toFixed(0).padStart(4),
    otherRatio.toFixed(2).padStart(7),
    `  ${verdict}`,
  ];
  if (peak !== undefined)
    cells.push(
      `  peak ${peak.mb.toFixed(0)} MB, limit ${peak.targetMb}${peak.mb <= peak.targetMb ? "" : " MISSED"}`,
    );
  return cells.join("");
}

const words = process.argv.slice(2);
if (words[0] === "--job") await runJob(words[1]!, words[2]!, words.slice(3));
else await main();
