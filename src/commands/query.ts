/** Builds a query from the options that select a map's elements. */
import { UsageError } from "../errors.ts";
import type { Query } from "../report/query.ts";
import type { Options } from "./command.ts";
import { countOption, textOption } from "./option-values.ts";
import type { OwnOption } from "./options.ts";

export const QUERY_OPTIONS: readonly OwnOption[] = ["limit", "cpu", "filter", "sort"];

/** Throws `UsageError`. Checks that need the map's types happen later. */
export function queryOf(options: Options): Query {
  return {
    limit: countOption(options, "limit"),
    cpu: cpuOf(textOption(options, "cpu")),
    filter: filterOf(textOption(options, "filter")),
    sort: sortOf(textOption(options, "sort")),
  };
}

function cpuOf(text: string | undefined): Query["cpu"] {
  if (text === undefined || text === "all") return undefined;
  if (text === "sum") return text;
  if (!/^\d{1,6}$/.test(text))
    throw new UsageError(`--cpu ${JSON.stringify(text)}: must be the number of a CPU, all or sum`);
  return Number(text);
}

function filterOf(source: string | undefined): Query["filter"] {
  if (source === undefined) return undefined;
  const { parseFilter } = require("../report/filter-parse.ts") as typeof import("../report/filter-parse.ts");
  return { source, expression: parseFilter(source) };
}

function sortOf(text: string | undefined): Query["sort"] {
  if (text === undefined) return undefined;
  const path = text.replace(/^[+-]/, "").trim();
  if (path === "") throw new UsageError("--sort: no member given");
  return { path, descending: text.startsWith("-") };
}
