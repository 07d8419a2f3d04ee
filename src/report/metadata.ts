/** Metadata of programs: constants in `.rodata` whose names begin with `bpf_metadata_` (bpftool-prog(8)). */
import type { BpfState, MapInfo, ProgInfo } from "../state.ts";
import { isSection, type Variable, variablesOf } from "./globals.ts";
import type { Json } from "./json.ts";
import { JsonText } from "./json.ts";
import { text } from "./typed.ts";
import { json } from "./typed-json.ts";

const PREFIX = "bpf_metadata_";

/** Whether a map may have metadata. Such maps must be held open for `metadataOf`. */
export function mayHoldMetadata(map: MapInfo): boolean {
  return isSection(map) && Buffer.from(map.name).includes(".rodata");
}

/** Returns the metadata in a program's first `.rodata` map, as bpftool does. The names have no prefix. Empty if there is none. */
export function metadataOf(state: BpfState, prog: ProgInfo): readonly Variable[] {
  let section: MapInfo | undefined;
  for (const id of prog.mapIds) {
    const map = state.mapById(id);
    if (map !== undefined && mayHoldMetadata(map)) {
      section = map;
      break;
    }
  }
  const variables = section === undefined ? undefined : variablesOf(state, section);
  return (variables ?? [])
    .filter(({ name }) => name.startsWith(PREFIX))
    .map((variable) => ({ ...variable, name: variable.name.slice(PREFIX.length) }));
}

/** bpftool's `metadata` member; undefined if there is none. */
export function metadataJson(variables: readonly Variable[]): Json {
  if (variables.length === 0) return undefined;
  return Object.fromEntries(
    variables.map(({ name, type, bytes }) => [name, new JsonText(json(type, bytes))]),
  );
}

/** Formats a line `metadata: author = "me"`; "" if there is none. */
export function metadataText(variables: readonly Variable[]): string {
  if (variables.length === 0) return "";
  return `\n\tmetadata: ${variables.map(({ name, type, bytes }) => `${name} = ${text(type, bytes)}`).join("  ")}`;
}
