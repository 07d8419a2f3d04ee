/** Reads one side of a comparison (a saved report, a memory image or the running kernel) as a report. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { KtstrError, UsageError } from "../errors.ts";
import { buildInspection } from "../report/inspection.ts";
import { inspectionJson } from "../report/inspection-json.ts";
import { stringify } from "../report/json.ts";
import { parseJson } from "../report/parse-json.ts";
import { fileCall } from "../report/read-file.ts";
import { isRecord, openRecord } from "../report/record-read.ts";
import { roundSnapshot } from "../report/record-snapshot.ts";
import { readSnapshot, type Snapshot } from "../report/snapshot.ts";
import type { Round } from "../round.ts";
import type { Context } from "./command.ts";
import { memorySource, openSource } from "./source.ts";

export interface Taken {
  readonly snapshot: Snapshot;
  /** Text for the output: the file's name, or "the running kernel". */
  readonly source: string;
}

const RUNNING = "the running kernel";

/** `given` is FILE or FILE@ADDRESS, identified by content, or undefined for the running kernel. Throws `KtstrError`. */
export async function snapshotOf(context: Context, given: string | undefined): Promise<Taken> {
  const recorded = given === undefined ? undefined : recordedSnapshots(given)?.at(-1);
  if (recorded !== undefined) return recorded;
  if (given !== undefined) {
    const { path } = memorySource(given);
    if (isReport(path)) {
      if (path !== given)
        throw new UsageError(`${given}: only a memory file has an address, and ${path} is JSON`, {
          hint: `give ${path} without the address`,
        });
      return { snapshot: readSnapshot(parseJson(readReport(path), path), path), source: path };
    }
  }
  const source = given ?? RUNNING;
  const memory = given === undefined ? [] : [given];
  using opened = await openSource({ ...context.options, memory }, () => true);
  // Entries are only counted, not compared. The conversion to text gives both kinds of input the same form.
  const report = stringify(inspectionJson(buildInspection(opened.state, 0)));
  return { snapshot: readSnapshot(parseJson(report, source), source), source };
}

/** Returns the first and last round of a record; undefined if it is not a record. Throws `KtstrError` if it has no rounds. */
export function recordedSnapshots(path: string): readonly [Taken, Taken] | undefined {
  if (!isRecord(startOf(path))) return undefined;
  const record = openRecord(path);
  let first: Round | undefined;
  let last: Round | undefined;
  for (const round of record.rounds()) {
    first ??= round;
    last = round;
  }
  if (first === undefined || last === undefined) throw new KtstrError(`${path}: the record has no rounds`);
  const taken = (round: Round, which: string): Taken => ({
    snapshot: roundSnapshot(record.facts, round),
    source: `${path}, ${which} round`,
  });
  return [taken(first, "first"), taken(last, "last")];
}

/** Size limit of a report. */
const MAX_REPORT_BYTES = 512 * 2 ** 20;
const PROBE_BYTES = 4096;

/** Returns true for a pipe and for a JSON file. A page of memory can also begin with a brace, but has a NUL byte. */
function isReport(path: string): boolean {
  try {
    if (!statSync(path).isFile()) return statSync(path).isFIFO();
  } catch {
    return false; // opening the file reports the error
  }
  const start = startOf(path);
  return /^\s*\{/.test(start) && !start.includes("\0");
}

/** Returns the first bytes of a regular file; "" for other files. */
function startOf(path: string): string {
  if (!fileCall("stat", path, () => statSync(path, { throwIfNoEntry: false }))?.isFile()) return "";
  const file = fileCall("open", path, () => openSync(path, "r"));
  try {
    const probe = Buffer.alloc(PROBE_BYTES);
    const got = fileCall("read", path, () => readSync(file, probe, 0, PROBE_BYTES, 0));
    return probe.subarray(0, got).toString("latin1");
  } finally {
    closeSync(file);
  }
}

function readReport(path: string): string {
  if (fileCall("stat", path, () => statSync(path)).size > MAX_REPORT_BYTES)
    throw new KtstrError(`${path}: too large for a report`);
  return fileCall("read", path, () => readFileSync(path, "utf8"));
}
