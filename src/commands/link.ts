import { linkJson } from "../report/bpftool.ts";
import { linkText } from "../report/text.ts";
import { LinkType } from "../uapi/names.ts";
import { type Command, command } from "./command.ts";
import { pinsFor } from "./pins.ts";
import { printList } from "./print.ts";
import { choose, parseSelector, type Selector } from "./select.ts";
import { openSource, pinnedIdOf, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr link show",
  alias: "list",
  description: "List links, or show one",
  options: ["bpffs"],
  grammar: "[id N | pinned PATH]",
  examples: ["ktstr link show", "ktstr -j link show id 3"],
  async start(context) {
    const parsed = parseSelector(context.words, ["id", "pinned"], "link");
    using source = await openSource(context.options, () => false);
    const selector: Selector =
      parsed.kind === "pinned" ? { kind: "id", id: await pinnedIdOf(source, parsed.path, "link") } : parsed;
    const links = choose(source.state.links(), selector, "link");
    const needsProgs = links.some((link) => link.type === LinkType.tracing);
    const types = new Map((needsProgs ? source.state.progs() : []).map((prog) => [prog.id, prog.type]));
    const progType = (id: number): number | undefined => types.get(id);
    const pins = await pinsFor(context, source, "link");
    printList(
      context,
      links,
      (link) => ({ ...linkJson(link, progType), ...pins.json(link.id) }),
      (link) => linkText(link, progType) + pins.text(link.id),
      selector.kind === "all",
    );
    warnAll(context, source.state);
    return 0;
  },
});

const link: Command = command({
  name: "ktstr link",
  description: "Links: what is attached where",
  examples: ["ktstr link show"],
  subCommands: { show: async () => show },
});

export default link;
