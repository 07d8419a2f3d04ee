/** The scx dumps of a log, as far as its lines tell: whatever is cut off or between them, nothing here throws. */
import type { ScxDump } from "./dump.ts";
import { DumpBuilder } from "./dump-builder.ts";
import { type DumpLine, readLine } from "./grammar.ts";
import { type LogLine, logLines } from "./lines.ts";

export interface ParsedLog {
  /** In the order of time. */
  readonly dumps: readonly ScxDump[];
  /** What else the log says of sched_ext: "sched_ext: BPF scheduler "x" disabled (runnable task stall)". */
  readonly notices: readonly LogNotice[];
  /** The newest line stands first, as `journalctl -r` prints. */
  readonly isReversed: boolean;
  readonly lineCount: number;
  /** Lines inside of dumps that nobody knows. They are in the dumps. */
  readonly unknownCount: number;
  /** Lines outside of dumps, which are about something else. */
  readonly outsideCount: number;
}

export interface LogNotice {
  readonly text: string;
  readonly line: number;
}

interface Read {
  readonly line: LogLine;
  readonly meaning: DumpLine;
}

export function parseLog(log: string): ParsedLog {
  const read: Read[] = [];
  for (const line of logLines(log)) read.push({ line, meaning: readLine(line.text) });
  const isReversed = isReverse(read);
  if (isReversed) read.reverse();
  const started: DumpBuilder[] = [];
  const notices: LogNotice[] = [];
  const writers = new Map<string, Writer>();
  let outsideCount = 0;
  for (const each of read) {
    const { line, meaning } = each;
    const writer = writers.get(line.source) ?? { open: undefined, owner: undefined };
    writers.set(line.source, writer);
    if (meaning.kind === "notice") notices.push({ text: line.text.trim(), line: line.number });
    const before = writer.open;
    const isInside = take(writer, each);
    if (writer.open !== undefined && writer.open !== before) started.push(writer.open);
    if (!isInside) outsideCount++;
  }
  const dumps = started.map((builder) => builder.finish());
  const unknownCount = dumps.reduce((sum, dump) => sum + unknownIn(dump), 0);
  return { dumps, notices, isReversed, lineCount: read.length, unknownCount, outsideCount };
}

/** Who writes lines of a log: several may write at a time, and each writes one dump after the other. */
interface Writer {
  open: DumpBuilder | undefined;
  /** A line that may be the next dump's first: "simple: root". */
  owner: Read | undefined;
}

/** False for a line that is about something else. */
function take(writer: Writer, each: Read): boolean {
  const { line, meaning } = each;
  if (meaning.kind === "blank") return true;
  if (meaning.kind === "notice") {
    writer.open = undefined;
    return true;
  }
  const { owner } = writer;
  writer.owner = undefined;
  const isHeading = meaning.kind === "debug" || meaning.kind === "exit";
  // "simple: root" that no heading follows: the scheduler's own words, if they stand in its dump.
  if (owner !== undefined && !isHeading) writer.open?.add(owner.line, { kind: "other" });
  if (meaning.kind === "owner") {
    writer.owner = each;
    return true;
  }
  if (writer.open?.endsBefore(meaning) === true) writer.open = undefined;
  if (isHeading) writer.open = new DumpBuilder(line, owner);
  else if (writer.open === undefined && OPENING.has(meaning.kind))
    writer.open = new DumpBuilder(line, undefined);
  writer.open?.add(line, meaning);
  return writer.open !== undefined;
}

/** Lines that nothing but a dump has, so that a dump whose heading is cut off is seen. */
const OPENING: ReadonlySet<DumpLine["kind"]> = new Set(["cpu", "curr", "task", "fields", "event"]);

function unknownIn({ unknown, cpus }: ScxDump): number {
  return cpus.reduce(
    (sum, cpu) =>
      sum + cpu.unknown.length + cpu.tasks.reduce((count, task) => count + task.unknown.length, 0),
    unknown.length,
  );
}

/** The lines of a task have one order: which way round most of them stand tells the log's. */
function isReverse(read: readonly Read[]): boolean {
  let forward = 0;
  let backward = 0;
  let before = 0;
  for (const { meaning } of read) {
    if (meaning.kind === "blank" || meaning.kind === "other") continue;
    const rank = rankOf(meaning);
    if (rank !== 0 && before !== 0) {
      if (rank === before + 1) forward++;
      else if (rank === before - 1) backward++;
    }
    before = rank;
  }
  return backward > forward;
}

function rankOf(meaning: DumpLine): number {
  if (meaning.kind === "task") return 1;
  if (meaning.kind === "fields") {
    if (meaning.fields.has("scx_state")) return 2;
    if (meaning.fields.has("sticky")) return 3;
    return meaning.fields.has("cpus") ? 5 : 4;
  }
  if (meaning.kind === "cpu") return 11;
  if (meaning.kind === "curr") return 12;
  if (meaning.kind === "states") return 21;
  return meaning.kind === "rule" ? 22 : 0;
}
