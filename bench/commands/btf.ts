/**
 * Indexing the running kernel's BTF, against libbpf's `btf__parse` on the same file in the same run: `bun
 * bench/commands/btf.ts`. Needs a C compiler and libbpf-dev. "first" is a process's first time, as a command pays it (one
 * process per run, the two sides in turn); "again" the median of later times in one process. Milliseconds.
 *
 * libbpf's figure contains its reading of the file, and ours stands beside it in a column of its own.
 */
import { readFileSync } from "node:fs";
import { Btf } from "../../src/btf/btf.ts";
import { compileReference, median, output, scratchFolder } from "../harness.ts";

const FILE = "/sys/kernel/btf/vmlinux";
const PROCESSES = 9;
const REPEATS = 31;

interface Run {
  readonly read: number;
  readonly times: readonly number[];
  readonly types: number;
}

/** In a process of its own: prints a `Run`. */
function child(): void {
  const start = performance.now();
  const bytes = readFileSync(FILE);
  const read = performance.now() - start;
  const times: number[] = [];
  let types = 0;
  for (let n = 0; n < REPEATS; n++) {
    const before = performance.now();
    types = Btf.parse(bytes).typeCount;
    times.push(performance.now() - before);
  }
  console.log(JSON.stringify({ read, times, types }));
}

function parent(): void {
  using folder = scratchFolder();
  const reference = compileReference("btf_parse", folder.path, "-lbpf");
  const theirs: Run[] = [];
  const ours: Run[] = [];
  for (let n = 0; n < PROCESSES; n++) {
    const lines = output(reference, FILE, String(REPEATS)).trim().split("\n");
    const pairs = lines.map((line) => line.split(" ").map(Number) as [number, number]);
    theirs.push({ read: 0, times: pairs.map(([time]) => time), types: pairs[0]![1] });
    ours.push(JSON.parse(output(process.execPath, import.meta.path, "child")) as Run);
  }
  if (ours[0]!.types !== theirs[0]!.types) throw new Error("the two do not count the same types");
  report(theirs, ours);
}

function report(theirs: readonly Run[], ours: readonly Run[]): void {
  const first = (runs: readonly Run[]): number => median(runs.map(({ times }) => times[0]!));
  const again = (runs: readonly Run[]): number => median(runs.map(({ times }) => median(times.slice(10))));
  const line = (what: string, ...values: number[]): void =>
    console.log(what.padEnd(34) + values.map((value) => value.toFixed(2).padStart(10)).join(""));
  console.log(`${ours[0]!.types} types, ${PROCESSES} processes each\n${"".padEnd(34)}     first     again`);
  line("libbpf btf__parse (with reading)", first(theirs), again(theirs));
  line("Btf.parse", first(ours), again(ours));
  line("ratio", first(ours) / first(theirs), again(ours) / again(theirs));
  line("(reading the file in Bun)", median(ours.map(({ read }) => read)));
}

if (process.argv[2] === "child") child();
else parent();
