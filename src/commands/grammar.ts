/** Parses the grammar that `--help` prints and returns the words that may come next, for completion. */

/** A keyword and its placeholder, such as `id N`; either may be missing. */
interface Alternative {
  readonly keyword: string;
  /** "N", "NAME", "raw|c"; "" for a keyword alone. */
  readonly argument: string;
}

/** A position in the grammar and its alternatives. */
interface Slot {
  readonly isOptional: boolean;
  readonly alternatives: readonly Alternative[];
}

/** Words and placeholders that may come next. */
export interface Expected {
  readonly keywords: readonly string[];
  /** Placeholders of values, such as "N" after `id`. */
  readonly placeholders: readonly string[];
  /** "map" after `btf dump map id`, if the object is of another kind than the command's; else "". */
  readonly noun: string;
}

const SELECTOR = "id N | tag TAG | name NAME | pinned PATH";
/** Placeholders that expand to several words: bpftool's PROG and MAP. */
const NESTED: Readonly<Record<string, string>> = {
  PROG: SELECTOR,
  MAP: "id N | name NAME | pinned PATH",
};

/** Returns the words and placeholders that `grammar` allows after `words`. Unknown words are skipped. */
export function expectedAfter(grammar: string, words: readonly string[]): Expected {
  const slots = slotsOf(grammar);
  let open = 0;
  let noun = "";
  let pending: Alternative | undefined;
  for (const word of words) {
    const nested = pending === undefined ? undefined : NESTED[pending.argument];
    if (nested !== undefined) {
      // `prog id 3`: a keyword of the nested selector; its value follows.
      noun = pending?.keyword ?? "";
      pending = slotsOf(nested)
        .flatMap(({ alternatives }) => alternatives)
        .find(({ keyword }) => keyword === word);
      continue;
    }
    noun = "";
    if (pending !== undefined) {
      pending = undefined;
      continue;
    }
    const at = slots.findIndex(
      ({ alternatives }, index) =>
        index >= open && alternatives.some(({ keyword }) => keyword === word || keyword === ""),
    );
    if (at < 0) continue;
    const chosen = slots[at]?.alternatives.find(({ keyword }) => keyword === word);
    pending = chosen === undefined || chosen.argument === "" ? undefined : chosen;
    open = at + 1;
  }
  return pending === undefined ? offered(slots.slice(open)) : { ...offeredBy(pending), noun };
}

/** Collects the next optional slots and the first required one. */
function offered(slots: readonly Slot[]): Expected {
  const end = slots.findIndex(({ isOptional }) => !isOptional);
  const reachable = slots.slice(0, end < 0 ? slots.length : end + 1).flatMap((slot) => slot.alternatives);
  return {
    keywords: reachable.filter(({ keyword }) => keyword !== "").map(({ keyword }) => keyword),
    placeholders: reachable.filter(({ keyword }) => keyword === "").map(({ argument }) => argument),
    noun: "",
  };
}

function offeredBy({ argument }: Alternative): Expected {
  const nested = NESTED[argument];
  if (nested !== undefined) return offered(slotsOf(nested));
  if (isKeyword(argument)) return { keywords: argument.split("|"), placeholders: [], noun: "" };
  return { keywords: [], placeholders: [argument], noun: "" };
}

/** Keywords are lower case, placeholders are capitals. */
const isKeyword = (token: string): boolean => /^[a-z_|0-9]+$/.test(token);

/** Splits a grammar into slots: each `[a | b]` and `{ a | b }` is one, and so is the text between them. */
function slotsOf(grammar: string): Slot[] {
  const slots: Slot[] = [];
  // A bracket after a letter belongs to a placeholder: VARIABLE[.member].
  const bracketed = /(?:^|(?<=\s))([[{])\s*(.*?)\s*[\]}](?=\s|$)/g;
  let at = 0;
  const add = (text: string, isOptional: boolean): void => {
    const alternatives = text.split(/\s+\|\s+/).flatMap(alternativesOf);
    if (alternatives.length > 0) slots.push({ isOptional, alternatives });
  };
  for (const found of grammar.matchAll(bracketed)) {
    add(grammar.slice(at, found.index), false);
    add(found[2] ?? "", found[1] === "[");
    at = found.index + found[0].length;
  }
  add(grammar.slice(at), false);
  return slots;
}

function alternativesOf(text: string): Alternative[] {
  const [first = "", second = ""] = text.trim().split(/\s+/);
  if (first === "" || first === "--") return [];
  if (!isKeyword(first)) return [{ keyword: "", argument: first }];
  if (first.includes("|")) return first.split("|").map((keyword) => ({ keyword, argument: "" }));
  return [{ keyword: first, argument: second }];
}
