/** Rounds of a kernel that goes on running: a counter's numbers, and with them links and global variables by name. */
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

/** A paused machine; `end` continues it and returns the length of the pause in milliseconds. */
export interface Standstill {
  end(): number;
}

export interface SeriesOptions {
  readonly facts: SeriesFacts;
  readonly counter: Counter;
  /** Opens the kernel as it is now. It is asked again when maps or links came or went; the one before is disposed of. */
  readonly openState: () => BpfState;
  /** The same with the maps open that programs are attached by. */
  readonly openPlaces: () => BpfState & AttachmentAccessor;
  /** Stops the machine for a round; undefined: it is not stopped. */
  readonly pause?: (() => Standstill | undefined) | undefined;
  /** What is to be known before the first round, as sentences. */
  readonly notes?: readonly string[];
  /** Disposed of with the series. */
  readonly owned?: Disposable | undefined;
}

export class Series implements RoundSource {
  readonly facts: SeriesFacts;
  readonly #options: SeriesOptions;
  readonly #started: number = performance.now();
  /** In the order in which they came. */
  readonly warnings: string[];
  #counted = 0;
  #stoodMs = 0;
  #state: BpfState | undefined;
  /** Of the maps and links that `#state` was opened with. */
  #ids = "";
  #linkIds = "";
  #links: readonly LinkFacts[] = [];

  constructor(options: SeriesOptions) {
    this.#options = options;
    this.facts = options.facts;
    this.warnings = [...(options.notes ?? [])];
  }

  /**
   * Reads once without a pause, so that what does not change is known before the first round: that one is then as short as
   * the others. What cannot be read of a machine that changes meanwhile is read by the round.
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
    const atMs = performance.now() - this.#started - this.#stoodMs;
    const unixMs = Date.now();
    let pauseMs: number | undefined;
    let read: Omit<Round, "atMs" | "unixMs" | "pauseMs">;
    try {
      read = this.#read();
    } finally {
      pauseMs = stop?.end();
      this.#stoodMs += pauseMs ?? 0;
    }
    return { atMs, unixMs, pauseMs, ...read };
  }

  places(progId: number): readonly string[] {
    try {
      using state = this.#options.openPlaces();
      const { places, untold } = progPlaces(state);
      return [...(places.get(progId) ?? []).map(({ text }) => text), ...untold];
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

  /** Which links there are changes seldom, and what they are attached to takes calls of its own. */
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

  /** undefined: there is no such variable now. */
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
