/** `inspect` as plain data: an overview of all objects, with map contents up to a limit. */
import type { AttachmentAccessor, PinAccessor } from "../attachments.ts";
import { KtstrError } from "../errors.ts";
import type { SchedAccessor } from "../sched-state.ts";
import type {
  ActiveScheduler,
  BpfState,
  ContentRecord,
  EntryCursor,
  KernelInfo,
  LinkInfo,
  MapContents,
  MapInfo,
  ProgInfo,
} from "../state.ts";
import { printable } from "../text.ts";
import { isHashMap, isPerCpuHashMap, MapType } from "../uapi/names.ts";
import type { ArenaObject } from "./arena-objects.ts";
import type { DumpStyle } from "./dump.ts";
import { isSection, type Variable, variablesOf } from "./globals.ts";
import { type InspectedSched, inspectSched } from "./inspect-sched.ts";
import type { StatsInterval } from "./interval.ts";
import { linkPlaces } from "./link-place.ts";
import { findOrphans, hasPinsAndNetworks } from "./orphans.ts";
import { type ProgPlaces, progPlaces } from "./prog-places.ts";
import { styleFor } from "./style.ts";
import { arenaIncomplete, hexAddress, incompleteReason } from "./words.ts";

export interface Inspection {
  readonly kernel: KernelInfo;
  readonly scheduler: ActiveScheduler | undefined;
  /** sched_ext's data of each scheduler; empty for a running kernel. */
  readonly sched: readonly InspectedSched[];
  readonly progs: readonly ProgInfo[];
  /** Interval whose costs are shown first; undefined: only totals. */
  readonly interval: StatsInterval | undefined;
  readonly maps: readonly InspectedMap[];
  readonly links: readonly InspectedLink[];
  /** Attachments of each program, by its id; absent: not known. */
  readonly places?: ProgPlaces["places"] | undefined;
  /** Limit on the entries shown per map. */
  readonly limit: number;
  readonly warnings: readonly string[];
}

export interface InspectedLink extends LinkInfo {
  /** Place of the attachment as text; "" if not known. */
  readonly place: string;
}

export interface InspectedMap {
  readonly info: MapInfo;
  readonly sample: Sample;
  /** Style in which its values are shown. */
  readonly style: DumpStyle;
  /** Global variables of a `.bss`, `.data` or `.rodata` map with BTF; undefined for other maps. */
  readonly variables: readonly Variable[] | undefined;
}

/** The first entries of a map, copied. */
export interface Sample {
  readonly entries: readonly SampleEntry[];
  readonly records: readonly SampleRecord[];
  /** Number of entries, or of the entries counted so far if `countIsWhole` is false. */
  readonly count: number;
  readonly countIsWhole: boolean;
  /** Reason, other than the limit, why entries are missing; "" if there is none. */
  readonly problem: string;
}

export interface SampleRecord extends ContentRecord {
  /** Known objects in an arena's page. */
  readonly objects?: readonly ArenaObject[];
}

export interface SampleEntry {
  readonly key: Uint8Array;
  /** One value, or one for each possible CPU. */
  readonly values: readonly Uint8Array[];
  /** CPU of each value, if they are not 0, 1, 2, ... */
  readonly cpus: readonly number[] | undefined;
  /** Reason why the value is missing; "" if it is present. */
  readonly missing: string;
}

/** Limit on counted elements: a walk over millions would delay the page. */
const COUNT_LIMIT = 100_000;

/** Calls `onMap` before each map is read, with its index and the number of maps. */
export function buildInspection(
  state: BpfState & Partial<SchedAccessor & AttachmentAccessor & PinAccessor>,
  limit: number,
  interval?: StatsInterval,
  onMap?: (done: number, total: number) => void,
): Inspection {
  const kernel = state.kernel();
  const scheduler = state.activeScheduler();
  const progs = state.progs();
  const problems: string[] = [];
  const place = linkPlaces(state);
  const links = listOrEmpty(problems, () => state.links()).map((link) => ({ ...link, place: place(link) }));
  const maps = state.maps().map((info, index, all) => {
    onMap?.(index, all.length);
    return inspectMap(state, info, limit);
  });
  // Attachments that could not be read are not reported here, but by `prog show --attached`.
  const attachments = progs.length > 0 && hasPinsAndNetworks(state) ? progPlaces(state) : undefined;
  const orphans = findOrphans(state, attachments);
  const warnings = [...problems, ...state.warnings, ...findings(kernel, scheduler, progs, maps), ...orphans];
  const sched = inspectSched(state);
  return {
    kernel,
    scheduler,
    sched,
    progs,
    interval,
    links,
    places: attachments?.places,
    maps,
    limit,
    warnings,
  };
}

/** Lists objects. An error is added to `problems`: a kernel may be too old for one listing (links: 5.8) and have the others. */
function listOrEmpty<T>(problems: string[], list: () => readonly T[]): readonly T[] {
  try {
    return list();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    problems.push(error.message);
    return [];
  }
}

/** Returns sentences about a scheduler that does not run, and about full maps. */
function findings(
  kernel: KernelInfo,
  scheduler: ActiveScheduler | undefined,
  progs: readonly ProgInfo[],
  maps: readonly InspectedMap[],
): string[] {
  const found: string[] = [];
  const own = progs.filter((prog) => scheduler?.progIds.includes(prog.id) === true);
  const ran = own.filter((prog) => prog.stats.ok && prog.stats.value.count > 0n);
  if (scheduler !== undefined && kernel.statsEnabled === true && own.length > 0 && ran.length === 0) {
    found.push(
      `scheduler ${scheduler.opsName}: none of its ${own.length} programs has run since statistics were enabled`,
    );
  }
  if (scheduler !== undefined && scheduler.state !== "" && scheduler.state !== "enabled") {
    found.push(`scheduler ${scheduler.opsName}: sched_ext is ${scheduler.state}`);
  }
  return [...found, ...fullMaps(maps)];
}

/** Up to this number, each full map has its own sentence. */
const FULL_ALONE = 3;

function fullMaps(maps: readonly InspectedMap[]): string[] {
  const full = maps
    .filter(({ info, sample }) => sample.countIsWhole && sample.count >= info.maxEntries && hasFill(info))
    .filter(({ info }) => info.maxEntries > 1)
    .map(({ info }) => info);
  if (full.length > FULL_ALONE) {
    const list = full.map(({ id, name }) => `${id} (${printable(name)})`).join(", ");
    return [`${full.length} maps are full: ${list}`];
  }
  return full.map(
    ({ id, name, maxEntries }) =>
      `map ${id} (${printable(name)}) is full: ${maxEntries} of ${maxEntries} entries`,
  );
}

/** Whether a map's type can be partly filled. Arrays always have all entries. */
export function hasFill(info: Pick<MapInfo, "type">): boolean {
  return isHashMap(info.type) || isPerCpuHashMap(info.type) || FILLED.includes(info.type);
}

const FILLED: readonly number[] = [
  MapType.lpm_trie,
  MapType.hash_of_maps,
  MapType.devmap_hash,
  MapType.sockhash,
  MapType.stack_trace,
];

function inspectMap(state: BpfState, info: MapInfo, limit: number): InspectedMap {
  const style = styleFor(state, info, { follow: 0, declarations: false });
  return {
    info,
    sample: takeSample(state.contents(info), limit, style),
    style,
    variables: isSection(info) ? variablesOf(state, info) : undefined,
  };
}

function takeSample(contents: MapContents, limit: number, style: DumpStyle): Sample {
  const nothing = { entries: [], records: [], count: 0, countIsWhole: true, problem: "" };
  switch (contents.kind) {
    case "unreadable":
      return { ...nothing, countIsWhole: false, problem: contents.why.detail };
    case "records": {
      const { records, end } = contents;
      const count = records.length;
      const problem = incompleteReason(end);
      return { ...nothing, records: records.slice(0, limit), count, countIsWhole: problem === "", problem };
    }
    case "arena": {
      const { pages } = contents.arena;
      const records = pages.slice(0, limit).map((page) => ({
        value: page.bytes,
        note: `page ${page.index} at ${hexAddress(page.userAddress)}`,
        objects: style.arena?.on(page.index) ?? [],
      }));
      return { ...nothing, records, count: pages.length, problem: arenaIncomplete(contents) };
    }
    case "entries": {
      using walk = contents.cursor;
      const known = contents.count;
      const entries: SampleEntry[] = [];
      let count = 0;
      let ended = false;
      while (count < COUNT_LIMIT) {
        ended = !walk.next();
        if (ended) break;
        if (count++ < limit) entries.push(copyEntry(walk));
        // The remaining elements are not walked if their number is known.
        else if (known !== undefined && known >= count)
          return { ...nothing, entries, count: known, problem: unread(walk) };
      }
      const problem = ended ? incompleteReason(walk.end) : "";
      return { ...nothing, entries, count, countIsWhole: ended && problem === "", problem };
    }
  }
}

/** Describes the elements that an unfinished walk skipped so far; "" if there are none. */
function unread({ end: { skipped, stopped } }: EntryCursor): string {
  return skipped.size === 0 ? "" : incompleteReason({ complete: false, skipped, stopped });
}

function copyEntry(walk: EntryCursor): SampleEntry {
  const values: Uint8Array[] = [];
  const copies = walk.valueMissing !== "" ? 0 : Math.max(walk.cpuCount, 1);
  for (let copy = 0; copy < copies; copy++) {
    const at = walk.valueOffset + copy * walk.valueStride;
    values.push(walk.valueBytes.slice(at, at + walk.valueSize));
  }
  const key = walk.keyBytes.slice(walk.keyOffset, walk.keyOffset + walk.keySize);
  return { key, values, cpus: walk.cpus, missing: walk.valueMissing };
}
