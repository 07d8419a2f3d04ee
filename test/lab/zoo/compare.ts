/** Compares the loader's answers with bpftool's dumps of the same kernel, on this machine or in a guest. */
import type { ZooAnswers, ZooEntry, ZooMap } from "./answers.ts";
import { difference, parseExactly, sectionMembers } from "./expect.ts";

/** The differences, one per line, and the number of comparisons. */
export interface Comparison {
  readonly problems: readonly string[];
  /** Number of maps whose bytes were compared, by the kind of their contents. */
  readonly maps: { readonly entries: number; readonly percpu: number; readonly ids: number };
  /** Number of values that were compared by member names. */
  readonly typed: number;
  /** Maps for which bpftool printed invalid JSON: bpftool 7.x cannot print floats. */
  readonly unprintable: readonly string[];
}

/** Converts bpftool's bytes, `"0x01","0x02"`, to plain hex. */
const hex = (bytes: string): string => bytes.replace(/[",\s]|0x/g, "");

const bytes = `((?:"0x..",?)+)`;

/** Returns `key=value` of each element. Does not use JSON.parse: bpftool's JSON is invalid if a value's BTF has a float. */
function plainPairs(text: string): string[] {
  const found = text.matchAll(new RegExp(`"key":\\[${bytes}\\],"value":\\[${bytes}\\]`, "g"));
  return [...found].map(([, key = "", value = ""]) => `${hex(key)}=${hex(value)}`);
}

function percpuPairs(text: string): string[] {
  const dumped = JSON.parse(text) as { key: string[]; values: { value: string[] }[] }[];
  return dumped.map(({ key, values }) => `${hex(`${key}`)}=${values.map(({ value }) => hex(`${value}`))}`);
}

/** Returns the ids in a map of maps or programs. An empty element has an error instead of a value. */
function idPairs(text: string): string[] {
  const found = text.matchAll(
    new RegExp(`"key":\\[${bytes}\\],"(?:value|inner_map_id)":\\[${bytes}\\]`, "g"),
  );
  return [...found].map(([, key = "", value = ""]) => `${hex(key)}=${hex(value)}`);
}

const shapes: {
  readonly [content: string]: { kind: "entries" | "percpu" | "ids"; pairs: (text: string) => string[] };
} = {
  entries: { kind: "entries", pairs: plainPairs },
  percpu: { kind: "percpu", pairs: percpuPairs },
  "map-ids": { kind: "ids", pairs: idPairs },
  "prog-ids": { kind: "ids", pairs: idPairs },
};

const stored = ({ key, value, values }: ZooEntry): string => `${key}=${value ?? values}`;

/** Returns pairs that only one side has, at most three per side. */
function unmatchedPairs(ours: readonly string[], theirs: readonly string[]): string {
  const only = (a: readonly string[], b: ReadonlySet<string>): string[] =>
    a.filter((pair) => !b.has(pair)).slice(0, 3);
  const [mine, seen] = [only(ours, new Set(theirs)), only(theirs, new Set(ours))];
  if (mine.length + seen.length === 0 && ours.length === theirs.length) return "";
  return `${ours.length} stored, ${theirs.length} dumped; stored alone: ${mine}; dumped alone: ${seen}`.slice(
    0,
    2000,
  );
}

/** Compares a map's values by member names. Returns their number, or undefined if bpftool's output is not valid JSON. */
function compareTyped(map: ZooMap, text: string, problems: string[]): number | undefined {
  const expected = map.entries.filter(({ expect }) => expect !== undefined);
  if (expected.length === 0) return 0;
  if (text.includes("unsupported-kind")) return undefined;
  const dumped = parseExactly(text) as unknown as { key: string[]; formatted: { value: never } }[];
  for (const { key, expect } of expected) {
    const found = dumped.find((pair) => hex(`${pair.key}`) === key);
    if (found === undefined || expect === undefined) continue;
    const where = difference(sectionMembers(found.formatted.value), expect);
    if (where !== undefined) problems.push(`${map.name} (id ${map.id}) key ${key}: ${where}`);
  }
  return expected.length;
}

/** Returns whether the map has BPF_F_WRONLY, so that bpf(2) cannot read it. */
const writeOnly = ({ map_flags }: ZooMap): boolean => (map_flags & 0x10) !== 0;

/** Compares every static map that bpftool can dump with its answer. `dump` returns `bpftool -j map dump id N`. */
export async function compareWithBpftool(
  answers: ZooAnswers,
  dump: (id: number) => Promise<string | undefined>,
): Promise<Comparison> {
  const problems: string[] = [];
  const maps = { entries: 0, percpu: 0, ids: 0 };
  const unprintable: string[] = [];
  let typed = 0;
  for (const map of answers.maps) {
    const shape = shapes[map.content];
    if (shape === undefined || !map.static || writeOnly(map)) continue;
    const text = await dump(map.id);
    if (text === undefined) {
      problems.push(`${map.name} (id ${map.id}): bpftool dumped nothing`);
      continue;
    }
    maps[shape.kind]++;
    const unmatched = unmatchedPairs(map.entries.map(stored), shape.pairs(text));
    if (unmatched !== "") problems.push(`${map.name} (id ${map.id}): ${unmatched}`);
    const values = shape.kind === "entries" ? compareTyped(map, text, problems) : 0;
    if (values === undefined) unprintable.push(map.name);
    else typed += values;
  }
  return { problems, maps, typed, unprintable };
}
