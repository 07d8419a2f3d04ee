/** `inspect` as plain data: everything that a person asks first, with contents up to a stated limit. */
import type {
  ActiveScheduler,
  BpfState,
  ContentRecord,
  KernelInfo,
  LinkInfo,
  MapContents,
  MapInfo,
  ProgInfo,
} from "../state.ts";
import { whyIncomplete } from "./dump.ts";
import { isSection, type Variable, variablesOf } from "./globals.ts";
import { type MapTypes, typesOf } from "./typed.ts";

export interface Inspection {
  readonly kernel: KernelInfo;
  readonly scheduler: ActiveScheduler | undefined;
  readonly progs: readonly ProgInfo[];
  readonly maps: readonly InspectedMap[];
  readonly links: readonly LinkInfo[];
  /** How many entries of a map are shown at most. */
  readonly limit: number;
  readonly warnings: readonly string[];
}

export interface InspectedMap {
  readonly info: MapInfo;
  readonly sample: Sample;
  readonly types: MapTypes | undefined;
  /** The global variables of a `.bss`, `.data` or `.rodata` with BTF; undefined for other maps. */
  readonly variables: readonly Variable[] | undefined;
}

/** The first of a map's contents, copied. */
export interface Sample {
  readonly entries: readonly SampleEntry[];
  readonly records: readonly ContentRecord[];
  /** There is more than is shown. */
  readonly more: boolean;
  /** Why it is not all, other than the limit; "" where nothing is wrong. */
  readonly problem: string;
}

export interface SampleEntry {
  readonly key: Uint8Array;
  /** One, or one for each possible CPU. */
  readonly values: readonly Uint8Array[];
  /** Why there is no value; "" where there is. */
  readonly missing: string;
}

export function buildInspection(state: BpfState, limit: number): Inspection {
  const progs = state.progs();
  const maps = state.maps();
  return {
    kernel: state.kernel(),
    scheduler: state.activeScheduler(),
    progs,
    links: state.links(),
    maps: maps.map((info) => inspectMap(state, info, limit)),
    limit,
    warnings: [...state.warnings],
  };
}

function inspectMap(state: BpfState, info: MapInfo, limit: number): InspectedMap {
  return {
    info,
    sample: takeSample(state.contents(info), limit),
    types: typesOf(state, info),
    variables: isSection(info) ? variablesOf(state, info) : undefined,
  };
}

function takeSample(contents: MapContents, limit: number): Sample {
  const nothing = { entries: [], records: [], more: false, problem: "" };
  switch (contents.kind) {
    case "unreadable":
      return { ...nothing, problem: contents.why.detail };
    case "records": {
      const { records, end } = contents;
      return {
        ...nothing,
        records: records.slice(0, limit),
        more: records.length > limit,
        problem: whyIncomplete(end),
      };
    }
    case "arena": {
      const { pages } = contents.arena;
      const records = pages.slice(0, limit).map((page) => ({
        value: page.bytes,
        note: `page ${page.index} at 0x${page.userAddress.toString(16)}`,
      }));
      return { ...nothing, records, more: pages.length > limit };
    }
    case "entries": {
      using walk = contents.cursor;
      const entries: SampleEntry[] = [];
      let more = false;
      while (!more && walk.next()) {
        if (entries.length === limit) {
          more = true;
          break;
        }
        const key = walk.keyBytes.slice(walk.keyOffset, walk.keyOffset + walk.keySize);
        const values: Uint8Array[] = [];
        const copies = walk.valueMissing !== "" ? 0 : Math.max(walk.cpuCount, 1);
        for (let copy = 0; copy < copies; copy++) {
          const at = walk.valueOffset + copy * walk.valueStride;
          values.push(walk.valueBytes.slice(at, at + walk.valueSize));
        }
        entries.push({ key, values, missing: walk.valueMissing });
      }
      return { ...nothing, entries, more, problem: more ? "" : whyIncomplete(walk.end) };
    }
  }
}
