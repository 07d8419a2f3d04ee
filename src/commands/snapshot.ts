/** One side of a comparison: a saved report, a memory image, or the running kernel, all as the report they give. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { KtstrError } from "../errors.ts";
import { buildInspection } from "../report/inspection.ts";
import { inspectionJson } from "../report/inspection-json.ts";
import { stringify } from "../report/json.ts";
import { parseJson } from "../report/parse-json.ts";
import { readSnapshot, type Snapshot } from "../report/snapshot.ts";
import type { Context } from "./command.ts";
import { memorySource, openSource } from "./source.ts";

export interface Taken {
  readonly snapshot: Snapshot;
  /** For people: the file's name, or "the running kernel". */
  readonly source: string;
}

const RUNNING = "the running kernel";

/** `given`: FILE or FILE@ADDRESS, told by its content; undefined: the running kernel. Throws `KtstrError`. */
export async function snapshotOf(context: Context, given: string | undefined): Promise<Taken> {
  if (given !== undefined && isReport(memorySource(given).path))
    return { snapshot: readSnapshot(parseJson(readReport(given), given), given), source: given };
  const source = given ?? RUNNING;
  const memory = given === undefined ? [] : [given];
  using opened = await openSource({ ...context.options, memory }, () => true);
  // Contents are only counted: entries are not compared. The text between is what makes both kinds of input one.
  const report = stringify(inspectionJson(buildInspection(opened.state, 0)));
  return { snapshot: readSnapshot(parseJson(report, source), source), source };
}

/** More than any report: what is larger is no report. */
const MAX_REPORT_BYTES = 512 * 2 ** 20;
const PROBE_BYTES = 4096;

/** JSON begins with a brace and has no NUL byte, which no page of a machine's memory lacks that begins so. */
function isReport(path: string): boolean {
  try {
    if (!statSync(path).isFile()) return statSync(path).isFIFO();
  } catch {
    return false; // who opens it says what is wrong
  }
  const file = openSync(path, "r");
  try {
    const probe = Buffer.alloc(PROBE_BYTES);
    const start = probe.subarray(0, readSync(file, probe, 0, PROBE_BYTES, 0));
    return /^\s*\{/.test(start.toString("latin1")) && !start.includes(0);
  } finally {
    closeSync(file);
  }
}

function readReport(path: string): string {
  if (statSync(path).size > MAX_REPORT_BYTES) throw new KtstrError(`${path}: too large for a report`);
  return readFileSync(path, "utf8");
}
