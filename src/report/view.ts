/**
 * A state as plain data, for tests and scripts: maps by name, with typed global variables and elements.
 *
 *     using guest = view(openLive());
 *     const stats = guest.map("scx_simple.bss").global("stats");
 */
import { encodeValue } from "../btf/encode.ts";
import type { Jsonable } from "../btf/json.ts";
import type { PlainValue } from "../btf/value.ts";
import { KtstrError } from "../errors.ts";
import type { BpfState, EntryCursor, MapContents, MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { parseFilter } from "./filter-parse.ts";
import { findGlobal, findGlobalAnywhere, globalValue, mapByName } from "./find-global.ts";
import { variablesOf } from "./globals.ts";
import { keyFromText } from "./key.ts";
import { applyQuery, type Query, singleElement } from "./query.ts";
import { type MapTypes, type TypeRef, typesOf } from "./typed.ts";
import { plain } from "./typed-json.ts";
import { incompleteReason } from "./words.ts";

/** Selection and order of elements: the options of `ktstr map dump`, with the same names. */
export interface ElementOptions {
  /** Expression: `'pid == 42 && in[0].tag > 3'`. */
  readonly filter?: string;
  /** Member to sort by, in ascending order; `-member`: in descending order. */
  readonly sort?: string;
  readonly limit?: number;
  /** For per-CPU maps: the value of one CPU, or the sum over all CPUs. */
  readonly cpu?: number | "sum";
}

/** An element as plain data, or as bytes if the map has no types. Elements of per-CPU maps have `values`, others `value`. */
export interface PlainElement {
  readonly key: PlainValue | Uint8Array;
  readonly value?: PlainValue | Uint8Array;
  readonly values?: readonly { readonly cpu: number; readonly value: PlainValue | Uint8Array }[];
}

/** Returns a view of `state`. Disposing the view disposes the state. */
export function view(state: BpfState): StateView {
  return new StateView(state);
}

export class StateView implements Disposable {
  readonly state: BpfState;

  constructor(state: BpfState) {
    this.state = state;
  }

  /**
   * Finds a map by name or id. If several maps have the name, returns the attached scheduler's. Throws `KtstrError` if no map
   * matches, or several do.
   */
  map(which: string | number): MapView {
    if (typeof which === "string") return new MapView(this.state, mapByName(this.state, which));
    const map = this.state.maps().find(({ id }) => id === which);
    if (map === undefined) throw new KtstrError(`no map has id ${which}`);
    return new MapView(this.state, map);
  }

  maps(): MapView[] {
    return this.state.maps().map((map) => new MapView(this.state, map));
  }

  /** Reads a global variable, or a part of one, of the attached scheduler or of the only object that has it. */
  global(path: string): PlainValue {
    return globalValue(findGlobalAnywhere(this.state, path));
  }

  [Symbol.dispose](): void {
    this.state[Symbol.dispose]();
  }
}

export class MapView {
  readonly info: MapInfo;
  readonly #state: BpfState;
  readonly #types: MapTypes | undefined;

  constructor(state: BpfState, info: MapInfo) {
    this.#state = state;
    this.info = info;
    this.#types = typesOf(state, info);
  }

  /** Name of the map, with unprintable characters escaped. */
  get name(): string {
    return printable(this.info.name);
  }

  /** Reads a global variable or a part of one: `"stats"`, `"stats.runs[3]"`. Throws `KtstrError`. */
  global(path: string): PlainValue {
    return globalValue(findGlobal(this.#state, this.info, path));
  }

  /** Reads all global variables. Throws `KtstrError` if the map is not a section or cannot be read. */
  globals(): { [name: string]: PlainValue } {
    const variables = variablesOf(this.#state, this.info);
    if (variables === undefined) throw this.#error("its global variables cannot be read");
    return Object.fromEntries(variables.map(({ name, type, bytes }) => [name, plain(type, bytes)]));
  }

  /**
   * Reads the element of a key, which is given as bytes, as text for `--key`, or as plain data for a typed key. Returns undefined
   * if there is no such element. Throws `KtstrError` if it cannot be read, `EncodeError` or `UsageError` if the key does not fit.
   */
  get(key: Uint8Array | Exclude<Jsonable, null>): PlainElement | undefined {
    const bytes = this.#keyBytes(key);
    const contents = singleElement(this.info, bytes, this.#state.lookup(this.info, bytes));
    if (contents.kind !== "entries") {
      if (contents.kind === "unreadable" && contents.why.reason === "not-present") return undefined;
      throw this.#error(contents.kind === "unreadable" ? contents.why.detail : "it has no keys");
    }
    const [element] = this.#plainEntries(contents.cursor);
    return element;
  }

  /** Reads all elements, or those selected by `options`, lazily. Throws `KtstrError` at the end if some could not be read. */
  *entries(options: ElementOptions = {}): Generator<PlainElement> {
    const contents = this.#contents(options);
    if (contents.kind !== "entries") throw this.#error(`it has ${contents.kind}, not keys and values`);
    yield* this.#plainEntries(contents.cursor);
  }

  /** Reads the values of a queue, a stack, a ring buffer or a storage map. Throws `KtstrError` if some could not be read. */
  records(options: Omit<ElementOptions, "cpu"> = {}): (PlainValue | Uint8Array)[] {
    const contents = this.#contents(options);
    if (contents.kind !== "records") throw this.#error(`it has ${contents.kind}, not records`);
    const incomplete = incompleteReason(contents.end);
    if (incomplete !== "") throw this.#error(incomplete);
    return contents.records.map(({ value }) => plainOr(this.#types?.value, value));
  }

  #contents({ filter, sort, limit, cpu }: ElementOptions): Exclude<MapContents, { kind: "unreadable" }> {
    const query: Query = {
      limit,
      cpu,
      filter: filter === undefined ? undefined : { source: filter, expression: parseFilter(filter) },
      sort:
        sort === undefined ? undefined : { path: sort.replace(/^-/, ""), descending: sort.startsWith("-") },
    };
    const scope = { map: this.info, types: this.#types };
    const contents = applyQuery(this.#state.contents(this.info), query, scope, (sentence) => {
      throw this.#error(sentence);
    });
    if (contents.kind === "unreadable") throw this.#error(contents.why.detail);
    return contents;
  }

  *#plainEntries(cursor: EntryCursor): Generator<PlainElement> {
    using walk = cursor;
    while (walk.next()) {
      const { keyBytes, keyOffset, keySize, valueBytes, valueOffset, valueSize, valueStride, cpuCount } =
        walk;
      if (walk.valueMissing !== "") throw this.#error(walk.valueMissing);
      const key = plainOr(this.#types?.key, keyBytes.subarray(keyOffset, keyOffset + keySize));
      const valueAt = (copy: number): PlainValue | Uint8Array => {
        const at = valueOffset + copy * valueStride;
        return plainOr(this.#types?.value, valueBytes.subarray(at, at + valueSize));
      };
      if (cpuCount === 0) yield { key, value: valueAt(0) };
      else {
        const cpus = Array.from({ length: cpuCount }, (_, copy) => walk.cpus?.[copy] ?? copy);
        yield { key, values: cpus.map((cpu, copy) => ({ cpu, value: valueAt(copy) })) };
      }
    }
    const incomplete = incompleteReason(walk.end);
    if (incomplete !== "") throw this.#error(incomplete);
  }

  #keyBytes(key: Uint8Array | Exclude<Jsonable, null>): Uint8Array {
    if (key instanceof Uint8Array) return key;
    if (typeof key === "object" && this.#types?.key !== undefined)
      return encodeValue(this.#types.key.btf, this.#types.key.id, key, this.info.keySize);
    return keyFromText(String(key), this.info, this.#types);
  }

  #error(problem: string): KtstrError {
    return new KtstrError(`map ${this.info.id} (${this.name}): ${problem}`);
  }
}

/** Copies bytes, because a cursor's buffer is overwritten by its next step. */
function plainOr(type: TypeRef | undefined, bytes: Uint8Array): PlainValue | Uint8Array {
  return type === undefined ? bytes.slice() : plain(type, bytes);
}
