/** Extracts scx dumps from a log. Missing and interleaved lines are tolerated; nothing here throws. */
import type { ScxDump } from "./dump.ts";
import { DumpBuilder } from "./dump-builder.ts";
import { type DumpLine, readLine } from "./grammar.ts";
import { type LogLine, logLines } from "./lines.ts";

export interface ParsedLog {
  /** In chronological order. */
  readonly dumps: readonly ScxDump[];
  /** Other messages about sched_ext: "sched_ext: BPF scheduler "x" disabled (runnable task stall)". */
  readonly notices: readonly LogNotice[];
  /** The log has the newest line first, as `journalctl -r` prints it. */
  readonly isReversed: boolean;
  readonly lineCount: number;
  /** Number of lines inside dumps that are not recognized. The dumps contain them. */
  readonly unknownCount: number;
  /** Number of lines outside of dumps. */
  readonly outsideCount: number;
}

export interface LogNotice {
  readonly text: string;
  readonly line: number;
}

interface ClassifiedLine {
  readonly line: LogLine;
  readonly parsed: DumpLine;
}

export function parseLog(log: string): ParsedLog {
  const read: ClassifiedLine[] = [];
  for (const line of logLines(log)) read.push({ line, parsed: readLine(line.text) });
  const isReversed = isReverseOrder(read);
  if (isReversed) read.reverse();
  const started: DumpBuilder[] = [];
  const notices: LogNotice[] = [];
  const writers = new Map<string, Writer>();
  let outsideCount = 0;
  for (const each of read) {
    const { line, parsed } = each;
    const writer = writers.get(line.source) ?? { open: undefined, owner: undefined };
    writers.set(line.source, writer);
    if (parsed.kind === "notice") notices.push({ text: line.text.trim(), line: line.number });
    const before = writer.open;
    const isInside = addLine(writer, each);
    if (writer.open !== undefined && writer.open !== before) started.push(writer.open);
    if (!isInside) outsideCount++;
  }
  const dumps = started.map((builder) => builder.finish());
  const unknownCount = dumps.reduce((sum, dump) => sum + countUnknown(dump), 0);
  return { dumps, notices, isReversed, lineCount: read.length, unknownCount, outsideCount };
}

/** A source of log lines. Several sources can write at the same time; each writes one dump after the other. */
interface Writer {
  open: DumpBuilder | undefined;
  /** A line that can be the first line of the next dump: "simple: root". */
  owner: ClassifiedLine | undefined;
}

/** Adds a line to the writer's dump. Returns false if the line is not part of a dump. */
function addLine(writer: Writer, each: ClassifiedLine): boolean {
  const { line, parsed } = each;
  if (parsed.kind === "blank") return true;
  if (parsed.kind === "notice") {
    writer.open = undefined;
    return true;
  }
  const { owner } = writer;
  writer.owner = undefined;
  const isHeading = parsed.kind === "debug" || parsed.kind === "exit";
  // A line "simple: root" without a heading after it is not the start of a dump. Inside a dump, the scheduler printed it.
  if (owner !== undefined && !isHeading) writer.open?.add(owner.line, { kind: "other" });
  if (parsed.kind === "owner") {
    writer.owner = each;
    return true;
  }
  if (writer.open?.endsBefore(parsed) === true) writer.open = undefined;
  if (isHeading) writer.open = new DumpBuilder(line, owner);
  else if (writer.open === undefined && OPENING.has(parsed.kind))
    writer.open = new DumpBuilder(line, undefined);
  writer.open?.add(line, parsed);
  return writer.open !== undefined;
}

/** Kinds of lines that occur only in dumps. They open a dump whose heading is missing. */
const OPENING: ReadonlySet<DumpLine["kind"]> = new Set(["cpu", "curr", "task", "fields", "event"]);

function countUnknown({ unknown, cpus }: ScxDump): number {
  return cpus.reduce(
    (sum, cpu) =>
      sum + cpu.unknown.length + cpu.tasks.reduce((count, task) => count + task.unknown.length, 0),
    unknown.length,
  );
}

/** Returns whether the log is in reverse order. A task's lines have a fixed order: pairs in both directions are counted. */
function isReverseOrder(read: readonly ClassifiedLine[]): boolean {
  let forward = 0;
  let backward = 0;
  let before = 0;
  for (const { parsed } of read) {
    if (parsed.kind === "blank" || parsed.kind === "other") continue;
    const rank = rankOf(parsed);
    if (rank !== 0 && before !== 0) {
      if (rank === before + 1) forward++;
      else if (rank === before - 1) backward++;
    }
    before = rank;
  }
  return backward > forward;
}

function rankOf(parsed: DumpLine): number {
  if (parsed.kind === "task") return 1;
  if (parsed.kind === "fields") {
    if (parsed.fields.has("scx_state")) return 2;
    if (parsed.fields.has("sticky")) return 3;
    return parsed.fields.has("cpus") ? 5 : 4;
  }
  if (parsed.kind === "cpu") return 11;
  if (parsed.kind === "curr") return 12;
  if (parsed.kind === "states") return 21;
  return parsed.kind === "rule" ? 22 : 0;
}
