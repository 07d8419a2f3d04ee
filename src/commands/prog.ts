import { progJson } from "../report/bpftool.ts";
import { mayHoldMetadata, metadataJson, metadataOf, metadataText } from "../report/metadata.ts";
import { progText } from "../report/text.ts";
import { type Command, command, described } from "./command.ts";
import { pidsFor } from "./holders.ts";
import { pinsFor } from "./pins.ts";
import { printList } from "./print.ts";
import { parseSelector } from "./select.ts";
import { selectProgs } from "./select-object.ts";
import { openSource, warnAll } from "./source.ts";
import { withStats } from "./stats.ts";

const show: Command = command({
  name: "ktstr prog show",
  alias: "list",
  description: "List programs with their costs, or show one",
  options: ["stats", "bpffs", "attached", "all"],
  grammar: "[id N | tag TAG | name NAME | pinned PATH]",
  examples: [
    "ktstr prog show",
    "ktstr prog show --stats 1",
    "ktstr -j prog show name simple_dispatch",
    "ktstr prog show id 12 --attached",
    "ktstr prog show id 12 --all",
  ],
  async start(context) {
    const selector = parseSelector(context.words, ["id", "tag", "name", "pinned"], "prog");
    const interval = await withStats(context);
    const page = context.options.own["all"] === true ? await import("../report/prog-page.ts") : undefined;
    const isAttachedWanted = page !== undefined || context.options.own["attached"] === true;
    const attached = isAttachedWanted ? await import("../report/prog-places.ts") : undefined;
    using source = await openSource(
      context.options,
      (map) => mayHoldMetadata(map) || attached?.isMapOfProgs(map) === true,
    );
    const progs = await selectProgs(source, selector);
    const kernel = source.state.kernel();
    const pins = pinsFor(context, source, "program", page !== undefined);
    const pids = pidsFor(source, "prog");
    const places = attached?.progPlaces(source.state);
    printList(
      context,
      progs,
      (prog) => ({
        ...progJson(prog, kernel, interval),
        metadata: metadataJson(metadataOf(source.state, prog)),
        ...pins.json(prog.id),
        ...pids.json(prog.id),
        ...(places !== undefined && attached?.progPlacesJson(source.state, prog, places)),
        ...page?.progPageJson(page.progPage(source.state, prog)),
      }),
      (prog) =>
        progText(prog, kernel, interval) +
        metadataText(metadataOf(source.state, prog)) +
        pins.text(prog.id) +
        pids.text(prog.id) +
        (places === undefined ? "" : attached?.progPlacesText(source.state, prog, places)) +
        (page === undefined ? "" : page.progPageText(page.progPage(source.state, prog))),
      selector.kind === "all",
    );
    for (const sentence of places?.problems ?? [])
      context.warn(`attachments of programs that are not shown: ${sentence}`);
    warnAll(context, source.state);
    return places === undefined || places.problems.length === 0 ? 0 : 1;
  },
});

const prog: Command = command({
  name: "ktstr prog",
  description: "Programs: attributes, run-time costs and instructions",
  examples: ["ktstr prog show", "ktstr prog dump xlated id 42"],
  subCommands: {
    show: async () => show,
    dump: described(
      "Print a program's instructions after verification, or its machine code, with source lines",
      async () => (await import("./prog-dump.ts")).default,
    ),
  },
});

export default prog;
