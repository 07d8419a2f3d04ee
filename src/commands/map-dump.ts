import { KtstrError, UsageError } from "../errors.ts";
import { mapHeaderJson } from "../report/bpftool.ts";
import type { DumpResult } from "../report/dump.ts";
import { stringify } from "../report/json.ts";
import type { Query } from "../report/query.ts";
import { styleFor } from "../report/style.ts";
import { mapTitle } from "../report/text.ts";
import { typesOf, untypedReason } from "../report/typed.ts";
import type { MapContents, MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { type Command, type Context, command, type ExitStatus } from "./command.ts";
import { neededFor, takeMapSelector } from "./map-contents.ts";
import { selectMaps } from "./map-select.ts";
import { countOption, isPlainBpftool, textOption } from "./option-values.ts";
import { QUERY_OPTIONS, queryOf } from "./query.ts";
import { openSource, type Source, warnAll } from "./source.ts";

const dump: Command = command({
  name: "ktstr map dump",
  description: "Print the contents of a map",
  grammar: "id N | name NAME | pinned PATH",
  options: ["key", ...QUERY_OPTIONS, "follow", "types", "plain"],
  examples: [
    "ktstr map dump id 12",
    "ktstr -j map dump name scx_simple.bss | jq '.[0].value'",
    "ktstr map dump name tasks --filter 'nr_runs > 100 && comm != \"bash\"' --sort -nr_runs --limit 10",
    "ktstr map dump name stats --cpu sum",
    "ktstr map dump name stats --plain bpftool",
    "ktstr map dump name tasks --key '{\"pid\": 42}' --follow 3",
  ],
  async start(context) {
    const words = [...context.words];
    const selector = takeMapSelector(words, "map dump");
    if (words.length > 0) throw new UsageError(`map dump: unexpected arguments: ${words.join(" ")}`);
    const wanted: Wanted = {
      key: textOption(context.options, "key"),
      query: queryOf(context.options),
      follow: countOption(context.options, "follow", "steps") ?? 0,
      declarations: context.options.own["types"] === true,
    };
    const isPlain = isPlainBpftool(context.options);
    if (isPlain && (wanted.follow > 0 || wanted.declarations))
      throw new UsageError("map dump: --plain bpftool cannot be combined with --follow or --types");
    // Only the code that the options need is loaded.
    const [source, contentsOf, dumpAll] = await Promise.all([
      openSource(context.options, neededFor(selector)),
      selection(context, wanted),
      context.options.json ? jsonDumper() : isPlain ? plainDumper() : textDumper(),
    ]);
    using _ = source;
    const maps = await selectMaps(source, selector);
    const status = dumpAll({ context, source, contentsOf, wanted }, maps);
    warnAll(context, source.state);
    return status;
  },
});

export default dump;

interface Wanted {
  readonly key: string | undefined;
  readonly query: Query;
  readonly follow: number;
  readonly declarations: boolean;
}

type ContentsOf = (state: Source["state"], map: MapInfo) => MapContents;

/** Returns a function that selects the wanted elements of a map. */
async function selection(context: Context, { key, query }: Wanted): Promise<ContentsOf> {
  if (key === undefined && Object.values(query).every((part) => part === undefined))
    return (state, map) => state.contents(map);
  const [{ applyQuery, singleElement }, { keyFromText }] = await Promise.all([
    import("../report/query.ts"),
    import("../report/key.ts"),
  ]);
  return (state, map) => {
    const types = typesOf(state, map);
    const keyBytes = key === undefined ? undefined : keyFromText(key, map, types);
    const contents =
      keyBytes === undefined
        ? state.contents(map)
        : singleElement(map, keyBytes, state.lookup(map, keyBytes));
    if (key !== undefined && contents.kind === "unreadable") {
      const { reason, detail } = contents.why;
      const cause = reason === "not-present" ? "there is no such key" : detail;
      throw new KtstrError(`map dump ${map.id} --key ${key}: ${cause}`);
    }
    return applyQuery(contents, query, { map, types }, context.warn);
  };
}

interface Dump {
  readonly context: Context;
  readonly source: Source;
  readonly contentsOf: ContentsOf;
  readonly wanted: Wanted;
}

type Dumper = (dump: Dump, maps: readonly MapInfo[]) => ExitStatus;

/** bpftool's JSON: an array of elements; for several maps of one name an array of objects with such arrays. */
async function jsonDumper(): Promise<Dumper> {
  const { dumpJson } = await import("../report/dump.ts");
  return ({ context, source, contentsOf, wanted }, maps) => {
    const { out } = context;
    const gap = context.options.pretty ? "\n  " : "";
    let status: ExitStatus = 0;
    // Reads all contents before printing, because an option can be invalid for one of the maps.
    const all = maps.map((map) => ({ map, contents: contentsOf(source.state, map) }));
    if (maps.length > 1) out.text("[");
    all.forEach(({ map, contents }, index) => {
      if (index > 0) out.text(",");
      if (maps.length > 1) out.text(`${stringify(mapHeaderJson(map)).slice(0, -1)},"elements":`);
      const result = dumpJson(out, map, contents, styleFor(source.state, map, wanted), gap);
      status = reportMissing(context, source, map, result) || status;
      if (maps.length > 1) out.text("}");
    });
    if (maps.length > 1) out.text("]");
    out.line();
    return status;
  };
}

async function textDumper(): Promise<Dumper> {
  const { dumpText } = await import("../report/dump-text.ts");
  return ({ context, source, contentsOf, wanted }, maps) => {
    const { out } = context;
    let status: ExitStatus = 0;
    maps.forEach((map, index) => {
      const contents = contentsOf(source.state, map);
      if (maps.length > 1) out.line(`${index > 0 ? "\n" : ""}${mapTitle(map)}`);
      const result = dumpText(out, map, contents, styleFor(source.state, map, wanted));
      out.line(`Found ${result.count} element${result.count === 1 ? "" : "s"}`);
      status = reportMissing(context, source, map, result) || status;
    });
    return status;
  };
}

/** bpftool's text cannot show maps without keys. */
async function plainDumper(): Promise<Dumper> {
  const { dumpBpftool } = await import("../report/dump-bpftool.ts");
  return ({ context, source, contentsOf }, maps) => {
    const plain = maps.map((map) => {
      const contents = contentsOf(source.state, map);
      if (contents.kind === "unreadable") throw new KtstrError(`map dump ${map.id}: ${contents.why.detail}`);
      if (contents.kind !== "entries")
        throw new UsageError(`map dump: bpftool prints nothing for map ${map.id}`, {
          hint: "omit --plain",
        });
      return { map, types: typesOf(source.state, map), cursor: contents.cursor };
    });
    let status: ExitStatus = 0;
    dumpBpftool(context.out, plain).forEach((result, index) => {
      status = reportMissing(context, source, maps[index]!, result) || status;
    });
    return status;
  };
}

/** Warns about parts that are missing from a dump, because its JSON has no field for them. Returns the exit status. */
function reportMissing(context: Context, { state }: Source, map: MapInfo, result: DumpResult): ExitStatus {
  const untyped = untypedReason(state, map);
  const name = map.name.length === 0 ? "" : ` (${printable(map.name)})`;
  if (untyped !== undefined)
    context.warn(`map ${map.id}${name}: shown as bytes, its types cannot be read: ${untyped}`);
  if (result.incomplete !== "") context.warn(`map ${map.id}${name}: incomplete: ${result.incomplete}`);
  return untyped === undefined && result.incomplete === "" ? 0 : 1;
}
