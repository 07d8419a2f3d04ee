/** Finds a global variable, or a part of one, by name. */
import { findPlace, findVariable, firstName, hintOf, type Place } from "../btf/place.ts";
import { type PlainValue, plainPart } from "../btf/value.ts";
import { KtstrError } from "../errors.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { isSection, type Variable, variablesOf } from "./globals.ts";

export interface Global {
  readonly map: MapInfo;
  readonly variable: Variable;
  /** Place of the requested part in the variable. */
  readonly place: Place;
}

/**
 * Finds a part of a variable by its path in one section: `nr_enqueued`, `stats.runs[3]`. Throws `KtstrError` if there is
 * no such variable or it cannot be read, `PathError` if it has no such part.
 */
export function findGlobal(state: BpfState, map: MapInfo, path: string): Global {
  const variables = variablesOrThrow(state, map);
  const variable = findVariable(variables, path);
  if (variable === undefined) {
    const wanted = firstName(path);
    throw new KtstrError(`map ${map.id} (${printable(map.name)}) has no variable ${JSON.stringify(wanted)}`, {
      hint: hintOf(
        wanted,
        variables.map(({ name }) => name),
      ),
    });
  }
  const rest = path.slice(variable.name.length).replace(/^\./, "");
  return { map, variable, place: findPlace(variable.type.btf, variable.type.id, rest) };
}

/** Converts the requested part to plain data. Throws `FormatError` if the type is invalid. */
export function globalValue({ variable, place }: Global): PlainValue {
  return plainPart(variable.type.btf, place, variable.bytes);
}

function variablesOrThrow(state: BpfState, map: MapInfo): readonly Variable[] {
  const variables = isSection(map) ? variablesOf(state, map) : undefined;
  if (variables !== undefined) return variables;
  const value = state.readValue(map, 0, map.valueSize);
  const why = !isSection(map)
    ? "it holds no global variables"
    : value.ok
      ? "its types cannot be read"
      : value.why.detail;
  throw new KtstrError(`map ${map.id} (${printable(map.name)}): ${why}`);
}

/**
 * Finds a variable by name in all sections. If several sections have it, the attached scheduler's is returned. Throws
 * `KtstrError` if no section has it, or several do.
 */
export function findGlobalAnywhere(state: BpfState, path: string): Global {
  const sections = state
    .maps()
    .filter(isSection)
    .map((map) => ({ map, variables: variablesOf(state, map) ?? [] }));
  const all = sections.filter(({ variables }) => findVariable(variables, path) !== undefined);
  const ofScheduler = new Set(all.length > 1 ? state.activeScheduler()?.mapIds : []);
  const own = all.filter(({ map }) => ofScheduler.has(map.id));
  const having = own.length > 0 ? own : all;
  const [first] = having;
  if (first !== undefined && having.length === 1) return findGlobal(state, first.map, path);
  if (first !== undefined) {
    const names = having.map(({ map }) => `${printable(map.name)} (${map.id})`).join(", ");
    throw new KtstrError(`several objects have a variable ${JSON.stringify(path)}: ${names}`, {
      hint: "put the map's name, or id N, before it",
    });
  }
  const names = sections.flatMap(({ variables }) => variables.map(({ name }) => name));
  const hint = hintOf(firstName(path), [...new Set(names)]);
  throw new KtstrError(
    `no variable is named ${JSON.stringify(path)} (${names.length} in ${sections.length} sections seen)`,
    {
      hint,
    },
  );
}

/** Finds a map by name; if several have it, the attached scheduler's. Throws `KtstrError`, which suggests similar names. */
export function mapByName(state: BpfState, name: string): MapInfo {
  const wanted = Buffer.from(name);
  const all = state.maps();
  const named = all.filter((map) => wanted.equals(map.name));
  const [first] = named;
  if (first === undefined) {
    const names = [...new Set(all.map((map) => printable(map.name)))].filter((one) => one !== "");
    throw new KtstrError(`no map is named ${JSON.stringify(name)} (${all.length} seen)`, {
      hint: hintOf(name, names),
    });
  }
  if (named.length === 1) return first;
  const ofScheduler = new Set(state.activeScheduler()?.mapIds);
  const own = named.filter(({ id }) => ofScheduler.has(id));
  if (own.length === 1) return own[0]!;
  throw new KtstrError(
    `several maps are named ${JSON.stringify(name)}: ids ${named.map(({ id }) => id).join(", ")}`,
    {
      hint: "choose one by its id",
    },
  );
}
