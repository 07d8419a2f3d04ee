/** Reads rounds of a running machine: its counters, links, and global variables by name. */
import type { AttachmentAccessor } from "../attachments.ts";
import { PathError } from "../btf/place.ts";
import type { PlainValue } from "../btf/value.ts";
import { KtstrError } from "../errors.ts";
import type { Counter, LinkFacts, Round, RoundSource, SeriesFacts } from "../round.ts";
import type { BpfState } from "../state.ts";
import { LINK_TYPES, nameOr } from "../uapi/names.ts";
import { findGlobal, findGlobalAnywhere, globalValue, mapByName } from "./find-global.ts";
import { linkPlaces } from "./link-place.ts";
import { progPlaces } from "./prog-places.ts";

/** A paused machine. `end` resumes it, and returns the duration of the pause in milliseconds. */
export interface PausedMachine {
  end(): number;
}

export interface SeriesOptions {
  readonly facts: SeriesFacts;
  readonly counter: Counter;
  /** Opens the kernel in its current state. Called again, after the previous state is disposed, if maps or links were added or removed. */
  readonly openState: () => BpfState;
  /** Opens the kernel as `openState` does, with all maps open that may attach programs. */
  readonly openPlaces: () => BpfState & AttachmentAccessor;
  /** Pauses the machine for a round. Returns undefined if it is not paused. */
  readonly pause?: (() => PausedMachine | undefined) | undefined;
  /** Sentences to print before the first round. */
  readonly notes?: readonly string[];
  /** Disposed together with the series. */
  readonly owned?: Disposable | undefined;
}

export class Series implements RoundSource {
  readonly facts: SeriesFacts;
  readonly #options: SeriesOptions;
  readonly #started: number = performance.now();
  /** In order of occurrence. */
  readonly warnings: string[];
  #counted = 0;
  #totalPauseMs = 0;
  #state: BpfState | undefined;
  /** Ids of the maps and links with which `#state` was opened. */
  #ids = "";
  #linkIds = "";
  #links: readonly LinkFacts[] = [];

  constructor(options: SeriesOptions) {
    this.#options = options;
    this.facts = options.facts;
    this.warnings = [...(options.notes ?? [])];
  }

  /**
   * Reads once without a pause and caches the facts that do not change, so that the pause of the first round is as short as later ones.
   * Errors are ignored: the machine runs during this read, and the round reads again.
   */
  warmUp(): void {
    try {
      this.#read();
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
    }
  }

  round(): Round {
    const stop = this.#options.pause?.();
    const atMs = performance.now() - this.#started - this.#totalPauseMs;
    const unixMs = Date.now();
    let pauseMs: number | undefined;
    let read: Omit<Round, "atMs" | "unixMs" | "pauseMs">;
    try {
      read = this.#read();
    } finally {
      pauseMs = stop?.end();
      this.#totalPauseMs += pauseMs ?? 0;
    }
    return { atMs, unixMs, pauseMs, ...read };
  }

  places(progId: number): readonly string[] {
    try {
      using state = this.#options.openPlaces();
      const { places, problems } = progPlaces(state);
      return [...(places.get(progId) ?? []).map(({ text }) => text), ...problems];
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      return [error.message];
    }
  }

  #read(): Omit<Round, "atMs" | "unixMs" | "pauseMs"> {
    const { counter } = this.#options;
    const { linkIds, ...counts } = counter.count();
    this.warnings.push(...counter.warnings.slice(this.#counted));
    this.#counted = counter.warnings.length;
    const links = this.#linksOf(linkIds, counts.maps.map(({ facts }) => facts.id).join());
    return { ...counts, links, globals: this.facts.globals.map((name) => this.#global(name)) };
  }

  /** Caches links: they change rarely, and reading their attachments takes additional calls. */
  #linksOf(ids: readonly number[], maps: string): readonly LinkFacts[] {
    const linkIds = ids.join();
    const all = `${maps};${linkIds}`;
    if (this.#state === undefined || all !== this.#ids) {
      this.#state?.[Symbol.dispose]();
      this.#state = this.#options.openState();
      this.#ids = all;
    }
    if (linkIds === this.#linkIds) return this.#links;
    const known = new Map(this.#links.map((link) => [link.id, link]));
    const placeOf = linkPlaces(this.#state);
    this.#links = this.#state.links().map((link) => {
      const facts = {
        id: link.id,
        type: String(nameOr(LINK_TYPES, link.type)),
        progId: link.progId,
        place: placeOf(link),
      };
      const old = known.get(link.id);
      return old !== undefined && isSameLink(old, facts) ? old : facts;
    });
    this.#linkIds = linkIds;
    return this.#links;
  }

  /** Returns undefined if there is no such variable at the moment. */
  #global(name: string): PlainValue | undefined {
    const state = this.#state;
    if (state === undefined) return undefined;
    try {
      const [, map, path = name] = /^([^:]+):(.+)$/.exec(name) ?? [];
      const found =
        map === undefined ? findGlobalAnywhere(state, path) : findGlobal(state, mapByName(state, map), path);
      return globalValue(found) ?? undefined;
    } catch (error) {
      if (!(error instanceof KtstrError || error instanceof PathError)) throw error;
      const sentence = `${name}: ${error.message}`;
      if (!this.warnings.includes(sentence)) this.warnings.push(sentence);
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    this.#state?.[Symbol.dispose]();
    this.#state = undefined;
    this.#options.owned?.[Symbol.dispose]();
  }
}

const isSameLink = (a: LinkFacts, b: LinkFacts): boolean =>
  a.type === b.type && a.progId === b.progId && a.place === b.place;
