/** Differences between two snapshots, as plain data. */
import { KtstrError } from "../errors.ts";
import { type Change, changesOf } from "./changes.ts";
import { type Cost, costsOf } from "./diff-costs.ts";
import { type SchedChanges, schedChanges } from "./diff-sched.ts";
import { type Pairs, pairUp } from "./pair-up.ts";
import type {
  Snapshot,
  SnapshotLink,
  SnapshotMap,
  SnapshotProg,
  SnapshotScheduler,
  SnapshotVariable,
} from "./snapshot.ts";

export interface Diff {
  readonly a: Snapshot;
  readonly b: Snapshot;
  /** Whether both are of one machine and one boot, so that ids mean the same objects and counters continue. */
  readonly sameBoot: boolean;
  /** Time from A to B; undefined if the boots differ, or the time is not known. */
  readonly elapsedNs: bigint | undefined;
  readonly scheduler: SchedulerChange;
  readonly sched: SchedChanges;
  /** Programs that ran, sorted by descending cost. */
  readonly costs: readonly Cost[];
  readonly progs: ObjectChanges<SnapshotProg>;
  readonly maps: ObjectChanges<SnapshotMap>;
  readonly links: ObjectChanges<SnapshotLink>;
  /** Maps of both sides with a different count, size or state. */
  readonly changedMaps: readonly (readonly [SnapshotMap, SnapshotMap])[];
  /** Links of both sides with a different program. */
  readonly changedLinks: readonly (readonly [SnapshotLink, SnapshotLink])[];
  readonly globals: readonly ChangedGlobals[];
  /** Warnings that only one report has. */
  readonly warnings: { readonly onlyA: readonly string[]; readonly onlyB: readonly string[] };
  /** Sentences about the comparison itself. */
  readonly notes: readonly string[];
}

export interface ObjectChanges<T> {
  readonly gone: readonly T[];
  readonly appeared: readonly T[];
  /** For the id of a new object: the id of the removed object with the same name and type. */
  readonly replaced: ReadonlyMap<number, number>;
}

export interface SchedulerChange {
  readonly kind: "none" | "same" | "attached" | "detached" | "reloaded" | "replaced";
  readonly a: SnapshotScheduler | undefined;
  readonly b: SnapshotScheduler | undefined;
}

/** Changed variables of one section. */
export interface ChangedGlobals {
  readonly a: SnapshotMap;
  readonly b: SnapshotMap;
  readonly variables: readonly ChangedVariable[];
}

export interface ChangedVariable {
  readonly name: string;
  /** Type in B, or in A if B does not have the variable. */
  readonly type: string;
  readonly changes: readonly Change[];
}

/** Throws `KtstrError` if B is older than A, in the same boot. */
export function buildDiff(a: Snapshot, b: Snapshot): Diff {
  const boot = compareBoots(a, b);
  const { sameBoot, elapsedNs } = boot;
  const notes = [...boot.notes];
  const progs = pairUp(a.progs, b.progs, sameBoot ? [progInstance] : [progCode, named]);
  const maps = pairUp(a.maps, b.maps, sameBoot ? [mapInstance] : [named, mapShape]);
  const links = pairUp(a.links, b.links, [sameBoot ? linkInstance : linkTarget(a, b)]);
  if (a.kernel.statsEnabled === false && b.kernel.statsEnabled === false)
    notes.push("run-time statistics were off: programs' costs were not counted");
  const scheduler = schedulerChange(a.scheduler, b.scheduler, sameBoot);
  return {
    a,
    b,
    sameBoot,
    elapsedNs,
    scheduler,
    sched: schedChanges(scheduler, a.sched, b.sched),
    costs: costsOf(progs, sameBoot, elapsedNs, b.kernel.uptimeNs),
    progs: objectChanges(progs, named),
    maps: objectChanges(maps, named),
    links: objectChanges(links, () => undefined),
    changedMaps: maps.both.filter(([before, after]) => mapChanged(before, after)),
    changedLinks: links.both.filter(([before, after]) => sameBoot && before.progId !== after.progId),
    globals: maps.both.flatMap(([before, after]) => globalsOf(before, after)),
    warnings: {
      onlyA: a.warnings.filter((warning) => !b.warnings.includes(warning)),
      onlyB: b.warnings.filter((warning) => !a.warnings.includes(warning)),
    },
    notes,
  };
}

type Identified = { readonly id: number; readonly type: string; readonly name: string };

const keyOf = (...parts: readonly (string | number | bigint | undefined)[]): string =>
  JSON.stringify(parts.map(String));
const progInstance = (prog: SnapshotProg): string =>
  keyOf(prog.id, prog.type, prog.tag, prog.name, prog.loadTimeNs);
const progCode = ({ type, tag, name }: SnapshotProg): string => keyOf(type, tag, name);
const mapInstance = (map: SnapshotMap): string => keyOf(map.id, map.name, mapShape(map));
const mapShape = ({ name, type, keySize, valueSize, maxEntries }: SnapshotMap): string =>
  keyOf(name, type, keySize, valueSize, maxEntries);
const named = ({ type, name }: Identified): string | undefined =>
  name === "" ? undefined : keyOf(type, name);
const linkInstance = ({ id, type }: SnapshotLink): string => keyOf(id, type);

/** Identity of a link across boots: its type and the name of its program. */
function linkTarget(a: Snapshot, b: Snapshot): (link: SnapshotLink) => string | undefined {
  const names = new Map<SnapshotLink, string>();
  for (const { links, progs } of [a, b]) {
    const byId = new Map(progs.map((prog) => [prog.id, prog.name]));
    for (const link of links) names.set(link, byId.get(link.progId) ?? "");
  }
  return (link) => keyOf(link.type, names.get(link));
}

interface Boots {
  readonly sameBoot: boolean;
  readonly elapsedNs: bigint | undefined;
  readonly notes: readonly string[];
}

/** Limit on the difference of two computed boot times of one boot: setting the clock shifts them. */
const CLOCK_SLACK_NS = 5_000_000_000n;

function compareBoots(a: Snapshot, b: Snapshot): Boots {
  const other = (why: string): Boots => ({
    sameBoot: false,
    elapsedNs: undefined,
    notes: [`different boots (${why}): objects are matched by name, costs are totals since each was loaded`],
  });
  for (const member of ["machine", "release", "version"] as const)
    if (isKnownToDiffer(a.kernel[member] || undefined, b.kernel[member] || undefined))
      return other(`${a.kernel[member]} and ${b.kernel[member]}`);
  const [before, after] = [a.kernel.bootTimeUnixNs, b.kernel.bootTimeUnixNs];
  if (!sharesProgram(a, b) && before !== undefined && after !== undefined) {
    const apart = after > before ? after - before : before - after;
    if (apart > CLOCK_SLACK_NS) return other(`${apart / 1_000_000_000n} s apart`);
  }
  const [start, end] = [a.kernel.uptimeNs, b.kernel.uptimeNs];
  if (start === undefined || end === undefined)
    return {
      sameBoot: true,
      elapsedNs: undefined,
      notes: ["no rates: a report does not have the time of its creation"],
    };
  if (end < start)
    throw new KtstrError(`diff: A was made ${Number(start - end) / 1e9} s after B`, {
      hint: "put the older one first",
    });
  return { sameBoot: true, elapsedNs: end - start, notes: [] };
}

/** Whether both have a program with the same id and load time in nanoseconds, which proves that the boots are equal. */
function sharesProgram(a: Snapshot, b: Snapshot): boolean {
  const known = new Set(a.progs.filter(({ loadTimeNs }) => loadTimeNs !== undefined).map(progInstance));
  return b.progs.some((prog) => known.has(progInstance(prog)));
}

function schedulerChange(
  a: SnapshotScheduler | undefined,
  b: SnapshotScheduler | undefined,
  sameBoot: boolean,
): SchedulerChange {
  const kind = (): SchedulerChange["kind"] => {
    if (a === undefined) return b === undefined ? "none" : "attached";
    if (b === undefined) return "detached";
    if (a.ops !== b.ops || isKnownToDiffer(a.object || undefined, b.object || undefined)) return "replaced";
    return sameBoot && isReloaded(a, b) ? "reloaded" : "same";
  };
  return { kind: kind(), a, b };
}

function isReloaded(a: SnapshotScheduler, b: SnapshotScheduler): boolean {
  if (isKnownToDiffer(a.enableSeq, b.enableSeq)) return true;
  const [before, after] = [a.progIds, b.progIds];
  return before !== undefined && after !== undefined && !before.some((id) => after.includes(id));
}

function objectChanges<T extends { readonly id: number }>(
  { onlyA, onlyB }: Pairs<T>,
  name: (object: T) => string | undefined,
): ObjectChanges<T> {
  const replaced = pairUp(onlyA, onlyB, [name]).both.map(([old, fresh]) => [fresh.id, old.id] as const);
  return { gone: onlyA, appeared: onlyB, replaced: new Map(replaced) };
}

/** Unknown values are not differences: one side may have been read without /proc. */
export function isKnownToDiffer<T>(a: T | undefined, b: T | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b;
}

function mapChanged(a: SnapshotMap, b: SnapshotMap): boolean {
  return (
    a.count !== b.count ||
    a.countIsWhole !== b.countIsWhole ||
    a.memlockBytes !== b.memlockBytes ||
    a.maxEntries !== b.maxEntries ||
    isKnownToDiffer(a.frozen, b.frozen)
  );
}

/** Pairs variables by name. Static variables of several files may share a name, and are paired in order. */
function globalsOf(a: SnapshotMap, b: SnapshotMap): ChangedGlobals[] {
  if (a.variables === undefined || b.variables === undefined) return [];
  const inOrder = (variable: SnapshotVariable): SnapshotVariable & { id: number } => ({
    ...variable,
    id: variable.offset,
  });
  const pairs = pairUp(a.variables.map(inOrder), b.variables.map(inOrder), [({ name }) => name]);
  const variables: ChangedVariable[] = [];
  const add = (before: SnapshotVariable | undefined, after: SnapshotVariable | undefined): void => {
    const { name, type } = (after ?? before)!;
    const changes = changesOf(name, before?.value, after?.value);
    if (changes.length > 0) variables.push({ name, type, changes });
  };
  for (const [before, after] of pairs.both) add(before, after);
  for (const variable of pairs.onlyB) add(undefined, variable);
  for (const variable of pairs.onlyA) add(variable, undefined);
  return variables.length === 0 ? [] : [{ a, b, variables }];
}
