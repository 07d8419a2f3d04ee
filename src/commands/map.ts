import { mapJson } from "../report/bpftool.ts";
import { mapText } from "../report/text.ts";
import { type Command, type Context, command, described } from "./command.ts";
import { pidsFor } from "./holders.ts";
import { MAP_KINDS, selectMaps } from "./map-select.ts";
import { pinsFor } from "./pins.ts";
import { printList } from "./print.ts";
import { parseSelector, type Selector } from "./select.ts";
import { openMaps, openSource, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr map show",
  alias: "list",
  description: "List maps, or show one",
  options: ["bpffs", "holders"],
  grammar: "[id N | name NAME | pinned PATH]",
  examples: [
    "ktstr map show",
    "ktstr -j map show name scx_simple.bss",
    "ktstr map show pinned /sys/fs/bpf/stats",
    "ktstr map show name stats --holders",
  ],
  async start(context) {
    const selector = parseSelector(context.words, MAP_KINDS, "map");
    if (context.options.own["holders"] === true) return showHolders(context, selector);
    using source = await openMaps(context.options);
    const maps = await selectMaps(source, selector);
    const pins = pinsFor(context, source, "map");
    const pids = pidsFor(source, "map");
    printList(
      context,
      maps,
      (map) => ({ ...mapJson(map), ...pins.json(map.id), ...pids.json(map.id) }),
      (map) => mapText(map) + pins.text(map.id) + pids.text(map.id),
      selector.kind === "all",
    );
    warnAll(context, source.state);
    return 0;
  },
});

/** Prints maps with their holders. This reads programs, links and the elements of maps of maps. */
async function showHolders(context: Context, selector: Selector): Promise<number> {
  const { isMapOfMaps, mapHolders, mapHoldersJson, mapHoldersText } = await import(
    "../report/map-holders.ts"
  );
  using source = await openSource(context.options, isMapOfMaps);
  const { state } = source;
  const maps = await selectMaps(source, selector);
  const pins = pinsFor(context, source, "map");
  const pids = pidsFor(source, "map");
  const { holders, problems } = mapHolders(state);
  printList(
    context,
    maps,
    (map) => ({
      ...mapJson(map),
      ...pins.json(map.id),
      ...pids.json(map.id),
      ...mapHoldersJson(holders.get(map.id)),
    }),
    (map) => mapText(map) + pins.text(map.id) + mapHoldersText(holders.get(map.id), state),
    selector.kind === "all",
  );
  for (const sentence of problems) context.warn(`holders that are not shown: ${sentence}`);
  warnAll(context, state);
  return problems.length === 0 ? 0 : 1;
}

const map: Command = command({
  name: "ktstr map",
  description: "Maps: attributes and contents",
  examples: ["ktstr map show", "ktstr map dump id 12", "ktstr map lookup id 12 key 1 0 0 0"],
  subCommands: {
    show: async () => show,
    dump: described("Print the contents of a map", async () => (await import("./map-dump.ts")).default),
    lookup: described("Print the value of a key", async () => (await import("./map-lookup.ts")).lookup),
    peek: described(
      "Print the next element of a queue or stack without removing it",
      async () => (await import("./map-lookup.ts")).peek,
    ),
    getnext: described(
      "Print the key after a key, or the first key",
      async () => (await import("./map-lookup.ts")).getNext,
    ),
  },
});

export default map;
