/** `inspect` as plain data: everything that a person asks first, with contents up to a stated limit. */
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
import { canBeAsked, findOrphans } from "./orphans.ts";
import { type ProgPlaces, progPlaces } from "./prog-places.ts";
import { styleFor } from "./style.ts";
import { arenaIncomplete, hexAddress, whyIncomplete } from "./words.ts";

export interface Inspection {
  readonly kernel: KernelInfo;
  readonly scheduler: ActiveScheduler | undefined;
  /** What memory tells of sched_ext, of each scheduler; none of a running kernel. */
  readonly sched: readonly InspectedSched[];
  readonly progs: readonly ProgInfo[];
  /** What the programs cost within it is shown first; undefined: costs are totals. */
  readonly interval: StatsInterval | undefined;
  readonly maps: readonly InspectedMap[];
  readonly links: readonly InspectedLink[];
  /** What runs each program, by its id; absent: not asked. */
  readonly places?: ProgPlaces["places"] | undefined;
  /** How many entries of a map are shown at most. */
  readonly limit: number;
  readonly warnings: readonly string[];
}

export interface InspectedLink extends LinkInfo {
  /** Where it is attached, in words; "" where that is not known. */
  readonly place: string;
}

export interface InspectedMap {
  readonly info: MapInfo;
  readonly sample: Sample;
  /** What its values are shown with. */
  readonly style: DumpStyle;
  /** The global variables of a `.bss`, `.data` or `.rodata` with BTF; undefined for other maps. */
  readonly variables: readonly Variable[] | undefined;
}

/** The first of a map's contents, copied. */
export interface Sample {
  readonly entries: readonly SampleEntry[];
  readonly records: readonly SampleRecord[];
  /** How many there are: all of them, or as far as was counted. */
  readonly count: number;
  readonly countIsWhole: boolean;
  /** Why it is not all, other than the limit; "" where nothing is wrong. */
  readonly problem: string;
}

export interface SampleRecord extends ContentRecord {
  /** What is known of an arena's page. */
  readonly objects?: readonly ArenaObject[];
}

export interface SampleEntry {
  readonly key: Uint8Array;
  /** One, or one for each possible CPU. */
  readonly values: readonly Uint8Array[];
  /** The CPU of each value, where they are not 0 and up. */
  readonly cpus: readonly number[] | undefined;
  /** Why there is no value; "" where there is. */
  readonly missing: string;
}

/** Elements are counted up to here: a page for people is not worth a walk over millions. */
const COUNT_LIMIT = 100_000;

/** `onMap` is told before each map is read how many were. */
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
  const links = orNothing(problems, () => state.links()).map((link) => ({ ...link, place: place(link) }));
  const maps = state.maps().map((info, index, all) => {
    onMap?.(index, all.length);
    return inspectMap(state, info, limit);
  });
  // What cannot be asked is not said on every page; `prog show --attached` says it.
  const told = progs.length > 0 && canBeAsked(state) ? progPlaces(state) : undefined;
  const orphans = findOrphans(state, told);
  const warnings = [...problems, ...state.warnings, ...findings(kernel, scheduler, progs, maps), ...orphans];
  const sched = inspectSched(state);
  return { kernel, scheduler, sched, progs, interval, links, places: told?.places, maps, limit, warnings };
}

/** A kernel may be too old for one listing (links: 5.8) and still have all the others to show. */
function orNothing<T>(problems: string[], list: () => readonly T[]): readonly T[] {
  try {
    return list();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    problems.push(error.message);
    return [];
  }
}

/** What a person should look at first. */
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
      `scheduler ${scheduler.opsName}: none of its ${own.length} programs has run since statistics are on`,
    );
  }
  if (scheduler !== undefined && scheduler.state !== "" && scheduler.state !== "enabled") {
    found.push(`scheduler ${scheduler.opsName}: sched_ext is ${scheduler.state}`);
  }
  return [...found, ...fullMaps(maps)];
}

/** So many full maps have a sentence each. */
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

/** Types whose number of entries says something: arrays always have all of theirs. */
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
      const problem = whyIncomplete(end);
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
        // Those that are not shown need not be walked to be counted.
        else if (known !== undefined && known >= count)
          return { ...nothing, entries, count: known, problem: unread(walk) };
      }
      const problem = ended ? whyIncomplete(walk.end) : "";
      return { ...nothing, entries, count, countIsWhole: ended && problem === "", problem };
    }
  }
}

/** What of a walk that goes on could not be read so far; "" where all was. */
function unread({ end: { skipped, stopped } }: EntryCursor): string {
  return skipped.size === 0 ? "" : whyIncomplete({ complete: false, skipped, stopped });
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
