/** What happened between two snapshots, as plain data. */
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
  /** Whether both are of one machine since one boot: then ids mean the same object, and counters went on. */
  readonly sameBoot: boolean;
  /** From A to B; undefined: of different boots, or not known. */
  readonly elapsedNs: bigint | undefined;
  readonly scheduler: SchedulerChange;
  readonly sched: SchedChanges;
  /** The costliest first; none for programs that did not run. */
  readonly costs: readonly Cost[];
  readonly progs: Comings<SnapshotProg>;
  readonly maps: Comings<SnapshotMap>;
  readonly links: Comings<SnapshotLink>;
  /** Maps of both with another count, size or state. */
  readonly changedMaps: readonly (readonly [SnapshotMap, SnapshotMap])[];
  /** Links of both that call another program now. */
  readonly changedLinks: readonly (readonly [SnapshotLink, SnapshotLink])[];
  readonly globals: readonly ChangedGlobals[];
  /** Warnings of one report alone. */
  readonly warnings: { readonly onlyA: readonly string[]; readonly onlyB: readonly string[] };
  /** What to know about this comparison, as sentences. */
  readonly notes: readonly string[];
}

export interface Comings<T> {
  readonly gone: readonly T[];
  readonly appeared: readonly T[];
  /** The id of the one in A of the same name and type that is gone, by the id of the new one. */
  readonly replaced: ReadonlyMap<number, number>;
}

export interface SchedulerChange {
  readonly kind: "none" | "same" | "attached" | "detached" | "reloaded" | "replaced";
  readonly a: SnapshotScheduler | undefined;
  readonly b: SnapshotScheduler | undefined;
}

/** The variables of one section that changed; one of them may have several parts that did. */
export interface ChangedGlobals {
  readonly a: SnapshotMap;
  readonly b: SnapshotMap;
  readonly variables: readonly ChangedVariable[];
}

export interface ChangedVariable {
  readonly name: string;
  /** In B; in A where it is gone. */
  readonly type: string;
  readonly changes: readonly Change[];
}

/** Throws `KtstrError` where B is the older one of the same boot. */
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
    progs: comings(progs, named),
    maps: comings(maps, named),
    links: comings(links, () => undefined),
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

/** A link has no name: of another boot it is the one of the same type with a program of the same name. */
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

/** A clock that is set now and then moves the time of boot that follows from it. */
const CLOCK_SLACK_NS = 5_000_000_000n;

function compareBoots(a: Snapshot, b: Snapshot): Boots {
  const other = (why: string): Boots => ({
    sameBoot: false,
    elapsedNs: undefined,
    notes: [`different boots (${why}): objects are matched by name, costs are totals since each was loaded`],
  });
  for (const member of ["machine", "release", "version"] as const)
    if (a.kernel[member] !== b.kernel[member])
      return other(`${a.kernel[member] || "?"} and ${b.kernel[member] || "?"}`);
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
      notes: ["no rates: a report does not say when it was made"],
    };
  if (end < start)
    throw new KtstrError(`diff: A was made ${Number(start - end) / 1e9} s after B`, {
      hint: "name the older one first",
    });
  return { sameBoot: true, elapsedNs: end - start, notes: [] };
}

/** A program that was loaded at the same nanosecond under the same id: certainly one boot. */
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
    if (a.ops !== b.ops || a.object !== b.object) return "replaced";
    return sameBoot && !a.progIds.some((id) => b.progIds.includes(id)) ? "reloaded" : "same";
  };
  return { kind: kind(), a, b };
}

function comings<T extends { readonly id: number }>(
  { onlyA, onlyB }: Pairs<T>,
  name: (object: T) => string | undefined,
): Comings<T> {
  const replaced = pairUp(onlyA, onlyB, [name]).both.map(([old, fresh]) => [fresh.id, old.id] as const);
  return { gone: onlyA, appeared: onlyB, replaced: new Map(replaced) };
}

/** One side may have been read where /proc was not mounted: that is no change. */
export function isKnownToDiffer(a: boolean | undefined, b: boolean | undefined): boolean {
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

/** Variables by name; static ones of several files may share theirs and are paired in their order. */
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
