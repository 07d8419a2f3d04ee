import { UsageError } from "../errors.ts";
import { mapHeaderJson, mapJson } from "../report/bpftool.ts";
import { type DumpResult, dumpJson } from "../report/dump.ts";
import { dumpText } from "../report/dump-text.ts";
import { stringify } from "../report/json.ts";
import { mapText, mapTitle } from "../report/text.ts";
import { typesOf } from "../report/typed.ts";
import type { MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { type Command, type Context, command, type ExitStatus } from "./command.ts";
import { printList } from "./print.ts";
import { choose, matches, parseSelector, type Selector } from "./select.ts";
import { openSource, type Source, warnAll } from "./source.ts";

const KINDS = ["id", "name", "pinned"] as const;

const show: Command = command({
  name: "ktstr map show",
  alias: "list",
  description: "List maps, or show one",
  grammar: "[id N | name NAME | pinned PATH]",
  examples: [
    "ktstr map show",
    "ktstr -j map show name scx_simple.bss",
    "ktstr map show pinned /sys/fs/bpf/stats",
  ],
  async start(context) {
    const selector = parseSelector(context.words, KINDS, "map");
    // Attributes are all that is shown, so no descriptor is kept.
    using source = await openSource(context.options, () => false);
    const maps = await selectMaps(source, selector);
    printList(context, maps, mapJson, mapText, selector.kind === "all");
    warnAll(context, source.state);
    return 0;
  },
});

const dump: Command = command({
  name: "ktstr map dump",
  description: "Print what a map holds",
  grammar: "id N | name NAME | pinned PATH",
  examples: ["ktstr map dump id 12", "ktstr -j map dump name scx_simple.bss | jq '.[0].value'"],
  async start(context) {
    const selector = parseSelector(context.words, KINDS, "map");
    if (selector.kind === "all") throw new UsageError("map dump: which map? id N, name NAME or pinned PATH");
    using source = await openSource(context.options, (map) => matches(selector, map));
    const maps = await selectMaps(source, selector);
    const status = context.options.json
      ? dumpAllJson(context, source, maps)
      : dumpAllText(context, source, maps);
    warnAll(context, source.state);
    return status;
  },
});

const map: Command = command({
  name: "ktstr map",
  description: "Maps: attributes and contents",
  examples: ["ktstr map show", "ktstr map dump id 12"],
  subCommands: { show: async () => show, dump: async () => dump },
});

export default map;

async function selectMaps(source: Source, selector: Selector): Promise<readonly MapInfo[]> {
  if (selector.kind !== "pinned") return choose(source.state.maps(), selector, "map");
  if (source.live === undefined) throw new UsageError("pinned paths exist only on a running kernel");
  const { openPinned } = await import("../live/pinned.ts");
  return [source.live.adopt(openPinned(selector.path, "map"), selector.path)];
}

/** bpftool's shape: an array of elements, and for several maps of one name an array of objects around it. */
function dumpAllJson(context: Context, source: Source, maps: readonly MapInfo[]): ExitStatus {
  const { out } = context;
  const gap = context.options.pretty ? "\n  " : "";
  let status: ExitStatus = 0;
  if (maps.length > 1) out.text("[");
  maps.forEach((map, index) => {
    if (index > 0) out.text(",");
    if (maps.length > 1) out.text(`${stringify(mapHeaderJson(map)).slice(0, -1)},"elements":`);
    status =
      tell(context, map, dumpJson(out, map, source.state.contents(map), gap, typesOf(source.state, map))) ||
      status;
    if (maps.length > 1) out.text("}");
  });
  if (maps.length > 1) out.text("]");
  out.line();
  return status;
}

function dumpAllText(context: Context, source: Source, maps: readonly MapInfo[]): ExitStatus {
  const { out } = context;
  let status: ExitStatus = 0;
  maps.forEach((map, index) => {
    if (maps.length > 1) out.line(`${index > 0 ? "\n" : ""}${mapTitle(map)}`);
    const result = dumpText(out, map, source.state.contents(map), typesOf(source.state, map));
    out.line(`Found ${result.count} element${result.count === 1 ? "" : "s"}`);
    status = tell(context, map, result) || status;
  });
  return status;
}

/** An incomplete dump says so on stderr and in the exit status: its JSON has no place for it. */
function tell(context: Context, map: MapInfo, result: DumpResult): ExitStatus {
  if (result.incomplete === "") return 0;
  const name = map.name.length === 0 ? "" : ` (${printable(map.name)})`;
  context.warn(`map ${map.id}${name}: incomplete: ${result.incomplete}`);
  return 1;
}
