import { layOutJson } from "../report/dump-bpftool.ts";
import { structOpsDump, structOpsJson, structOpsText } from "../report/struct-ops.ts";
import type { MapInfo } from "../state.ts";
import { MapType } from "../uapi/names.ts";
import { type Command, type Context, command } from "./command.ts";
import { printList } from "./print.ts";
import { choose, parseSelector, type SelectorKind } from "./select.ts";
import { openSource, type Source, warnAll } from "./source.ts";

const KINDS: readonly SelectorKind[] = ["id", "name"];
const GRAMMAR = "[id N | name NAME]";

const isStructOps = (map: MapInfo): boolean => map.type === MapType.struct_ops;

/** Runs `print` with the selected struct_ops maps. */
async function withMaps(
  context: Context,
  print: (source: Source, maps: readonly MapInfo[]) => void,
): Promise<number> {
  const selector = parseSelector(context.words, KINDS, "struct_ops");
  using source = await openSource(context.options, isStructOps);
  print(source, choose(source.state.maps().filter(isStructOps), selector, "struct_ops"));
  warnAll(context, source.state);
  return 0;
}

const show: Command = command({
  name: "ktstr struct_ops show",
  alias: "list",
  description: "List struct_ops maps with the kernel struct of each",
  grammar: GRAMMAR,
  examples: ["ktstr struct_ops show", "ktstr -j struct_ops show name simple_ops"],
  start: (context) =>
    withMaps(context, ({ state }, maps) =>
      printList(
        context,
        maps,
        (map) => structOpsJson(state, map),
        (map) => structOpsText(state, map),
        true,
      ),
    ),
});

const dump: Command = command({
  name: "ktstr struct_ops dump",
  description:
    "Print a struct_ops map's attributes and its value, with the programs that implement its functions",
  grammar: GRAMMAR,
  examples: ["ktstr struct_ops dump", "ktstr -j struct_ops dump id 12"],
  start: (context) =>
    withMaps(context, ({ state }, maps) => {
      const { json } = context.options;
      const objects = maps.flatMap((map) => structOpsDump(state, map, !json));
      if (json)
        printList(
          context,
          objects,
          (object) => object,
          () => "",
          true,
        );
      else context.out.line(layOutJson(`[${objects.map(({ text }) => text).join(",")}]`, 0));
    }),
});

const structOps: Command = command({
  name: "ktstr struct_ops",
  description: "struct_ops maps: kernel structs whose functions are BPF programs",
  examples: ["ktstr struct_ops show", "ktstr struct_ops dump name simple_ops"],
  subCommands: { show: async () => show, dump: async () => dump },
});

export default structOps;
