/** bpftool's selectors: `id N`, `name X`, `tag T`, `pinned PATH`. */
import { KtstrError, UsageError } from "../errors.ts";
import { similarWords } from "../similar-words.ts";
import { printable } from "../text.ts";
import { isPrefix } from "./bpftool-words.ts";

export type SelectorKind = "id" | "name" | "tag" | "pinned";

export type Selector =
  | { readonly kind: "all" }
  | { readonly kind: "id"; readonly id: number }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "tag"; readonly tag: string }
  | { readonly kind: "pinned"; readonly path: string };

/** An object that can be selected: a map, program, link or BTF object. */
export interface Selectable {
  readonly id: number;
  readonly name?: Uint8Array;
  readonly fullName?: Uint8Array;
  readonly tag?: Uint8Array;
}

/** Parses a selector; no words are `all`. Throws `UsageError`. */
export function parseSelector(
  words: readonly string[],
  kinds: readonly SelectorKind[],
  noun: string,
): Selector {
  const [word, value, ...rest] = words;
  if (word === undefined) return { kind: "all" };
  const kind = kinds.find((name) => isPrefix(word, name));
  if (kind === undefined) {
    const near = words.length === 1 ? [selectorFor(word, kinds)] : similarWords(word, kinds);
    throw new UsageError(`${noun}: ${JSON.stringify(word)} is not one of ${kinds.join(", ")}`, {
      hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : "",
    });
  }
  if (value === undefined) throw new UsageError(`${noun} ${kind}: no ${kind} given`);
  if (rest.length > 0)
    throw new UsageError(`${noun} ${kind} ${value}: unexpected arguments: ${rest.join(" ")}`);
  switch (kind) {
    case "id": {
      const id = Number(value);
      if (!/^(\d+|0x[0-9a-f]+)$/i.test(value) || id > 0xffff_ffff) {
        throw new UsageError(`${noun} id ${JSON.stringify(value)}: not a 32-bit number`);
      }
      return { kind, id };
    }
    case "name":
      return { kind, name: value };
    case "tag":
      if (!/^[0-9a-f]{16}$/i.test(value)) {
        throw new UsageError(`${noun} tag ${JSON.stringify(value)}: a tag has 16 hexadecimal digits`);
      }
      return { kind, tag: value.toLowerCase() };
    case "pinned":
      return { kind, path: value };
  }
}

/** Suggests a selector for a lone word: `id 158`, `name NAME`, `pinned PATH`. */
function selectorFor(word: string, kinds: readonly SelectorKind[]): string {
  const kind = /^\d+$/.test(word) ? "id" : word.includes("/") ? "pinned" : "name";
  const known = kinds.includes(kind) ? kind : (kinds[0] ?? "id");
  return `\`${known} ${known === kind ? word : known.toUpperCase()}\``;
}

/** Returns true if the selector matches an object. Returns false for a pinned path, whose object is opened by the path. */
export function matches(selector: Selector, object: Selectable): boolean {
  switch (selector.kind) {
    case "all":
      return true;
    case "id":
      return object.id === selector.id;
    case "name": {
      const wanted = Buffer.from(selector.name);
      return [object.name, object.fullName].some((name) => name !== undefined && wanted.equals(name));
    }
    case "tag":
      return object.tag !== undefined && Buffer.from(object.tag).toString("hex") === selector.tag;
    case "pinned":
      return false;
  }
}

/** Returns the objects of `all` that match; at least one. Throws `KtstrError` with similar names. */
export function choose<T extends Selectable>(
  all: readonly T[],
  selector: Selector,
  noun: string,
): readonly T[] {
  const chosen = all.filter((object) => matches(selector, object));
  if (chosen.length > 0 || selector.kind === "all") return chosen;
  if (selector.kind === "name") {
    const names = all.map((object) => printable(object.fullName ?? object.name ?? new Uint8Array()));
    const near = similarWords(
      selector.name,
      [...new Set(names)].filter((name) => name !== ""),
    );
    throw new KtstrError(`no ${noun} is named ${JSON.stringify(selector.name)} (${all.length} seen)`, {
      hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : `\`ktstr ${noun} show\` lists them`,
    });
  }
  const what =
    selector.kind === "id" ? `id ${selector.id}` : selector.kind === "tag" ? `tag ${selector.tag}` : "";
  throw noSuchObject(noun, `${what} (${all.length} seen)`);
}

/** Returns the error for an object that does not exist. `what` describes it, such as "id 5". */
export function noSuchObject(noun: string, what: string): KtstrError {
  return new KtstrError(`no ${noun} has ${what}`, { hint: `\`ktstr ${noun} show\` lists them` });
}
