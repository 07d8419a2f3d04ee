/**
 * Runs both sides of a case alternately, and computes one row of the table.
 *
 * Times are elapsed times. A side's figure is the minimum over all repetitions of all rounds, because other load and the host
 * can only add time. CPU time is not used: on a virtual machine the kernel subtracts steal time from it (`update_rq_clock_task`
 * in kernel/sched/core.c), so that some repetitions have a tenth of their elapsed time, and the minimum is wrong.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Case, Prepared, Side, Suite, Work } from "./case.ts";
import { compileReference, median, output, peakOf, runCommand } from "./harness.ts";

export interface Row {
  readonly name: string;
  readonly items: number;
  /** Nanoseconds per item: minima over the rounds. */
  readonly oursNs: number;
  readonly referenceNs: number;
  /** Ratio of these minima. */
  readonly ratio: number;
  /** Half of the interquartile range of the rounds' ratios, as a share of the ratio. */
  readonly noise: number;
  /** Ratio of the first repetitions; for commands, of CPU times. */
  readonly otherRatio: number;
  readonly target: number | undefined;
  /** Peak of the subject's resident memory and its limit, if the case has one. */
  readonly peak: { readonly mb: number; readonly targetMb: number } | undefined;
}

/** One process of one side. */
interface Run {
  readonly work: Work;
  readonly ns: number;
  readonly otherNs: number;
}

/** Number of repetitions at the start that do not count, because the engine still compiles. */
const WARM_UP = 3;

export async function measureCase(
  file: string,
  { name, target, peakTargetMb, times = 9, loops = 1, prepare }: Case,
  rounds: number,
  folder: string,
): Promise<Row> {
  const place = mkdtempSync(join(folder, "case-"));
  try {
    using prepared = await prepare(place);
    const subject: Run[] = [];
    const reference: Run[] = [];
    const run = (side: Side): Promise<Run> =>
      runSide(side, { file, name, times, loops, folder, items: prepared.items ?? 1 });
    for (let round = 0; round < rounds; round++) {
      // The order changes, because a process can leave data in caches that makes the next one faster.
      if (round % 2 === 0) reference.push(await run(prepared.reference));
      subject.push(await run(prepared.subject));
      if (round % 2 === 1) reference.push(await run(prepared.reference));
    }
    check(name, prepared, subject, reference);
    return { ...rowOf(name, target, subject, reference), peak: peakIn(prepared.subject, peakTargetMb) };
  } finally {
    rmSync(place, { recursive: true });
  }
}

function peakIn(side: Side, targetMb: number | undefined): Row["peak"] {
  return targetMb === undefined || side.kind !== "command"
    ? undefined
    : { mb: peakOf(side.command), targetMb };
}

function check(
  name: string,
  { subject, reference, sameOutput }: Prepared,
  ours: readonly Run[],
  theirs: readonly Run[],
): void {
  const isSameJob = subject.kind !== "ours" || reference.kind === "c";
  const [a, b] = [ours[0]!.work, theirs[0]!.work];
  if (isSameJob && (a.items !== b.items || a.checksum !== b.checksum))
    throw new Error(`${name}: ${JSON.stringify(a)} against the reference's ${JSON.stringify(b)}`);
  if (sameOutput && subject.kind === "command" && reference.kind === "command")
    output("cmp", subject.into ?? "", reference.into ?? "");
}

function rowOf(
  name: string,
  target: number | undefined,
  ours: readonly Run[],
  theirs: readonly Run[],
): Omit<Row, "peak"> {
  const perItem = ({ ns, work }: Run): number => ns / work.items;
  const ratios = ours.map((run, round) => perItem(run) / perItem(theirs[round]!));
  const oursNs = Math.min(...ours.map(perItem));
  const referenceNs = Math.min(...theirs.map(perItem));
  const ratio = oursNs / referenceNs;
  const other = ours.map((run, round) => {
    const theirRun = theirs[round]!;
    return run.otherNs / run.work.items / (theirRun.otherNs / theirRun.work.items);
  });
  const sorted = ratios.toSorted((a, b) => a - b);
  const quartile = (part: number): number => sorted[Math.round((sorted.length - 1) * part)]!;
  return {
    name,
    items: ours[0]!.work.items,
    oursNs,
    referenceNs,
    ratio,
    noise: (quartile(0.75) - quartile(0.25)) / 2 / ratio,
    otherRatio: median(other),
    target,
  };
}

interface RunOptions {
  readonly file: string;
  readonly name: string;
  readonly times: number;
  readonly loops: number;
  readonly folder: string;
  readonly items: number;
}

async function runSide(side: Side, { file, name, times, loops, folder, items }: RunOptions): Promise<Run> {
  const counts = [String(times), String(loops)];
  switch (side.kind) {
    case "command": {
      const { wallMs, cpuMs } = await runCommand(side.command, side.into ?? "/dev/null");
      return { work: { items, checksum: 0 }, ns: wallMs * 1e6, otherNs: cpuMs * 1e6 };
    }
    case "c": {
      const program = compileReference(side.program, folder, ...(side.libraries ?? []));
      return parse(output(program, ...counts, ...side.words), name);
    }
    case "ours": {
      const self = join(import.meta.dir, "run.ts");
      return parse(output(process.execPath, self, "--job", file, side.job, ...counts, ...side.words), name);
    }
  }
}

/** Parses "ITEMS CHECKSUM" and nanoseconds, one per line. */
function parse(text: string, name: string): Run {
  const [first = "", ...rest] = text.trim().split("\n");
  const [items, checksum] = first.split(" ").map(Number);
  const times = rest.map(Number);
  if (items === undefined || checksum === undefined || !(items > 0) || times.length === 0)
    throw new Error(`${name}: a side printed ${JSON.stringify(text.slice(0, 200))}`);
  const settled = times.length > WARM_UP ? times.slice(WARM_UP) : times;
  return { work: { items, checksum }, ns: Math.min(...settled), otherNs: times[0]! };
}

/**
 * Runs a job in this process, which measures nothing else: `times` repetitions, of which the first runs the job once and the others
 * run it `loops` times. Prints the same format as the references.
 */
export async function runJob(
  file: string,
  job: string,
  [times, loops, ...words]: readonly string[],
): Promise<void> {
  const { jobs } = (await import(file)) as Suite;
  const work = jobs[job]!(...words);
  const ns: number[] = [];
  let done: Work = { items: 0, checksum: 0 };
  for (let n = 0; n < Number(times); n++) {
    const count = n === 0 ? 1 : Number(loops);
    const start = Bun.nanoseconds();
    for (let loop = 0; loop < count; loop++) done = work();
    ns.push((Bun.nanoseconds() - start) / count);
  }
  console.log([`${done.items} ${done.checksum >>> 0}`, ...ns].join("\n"));
}
