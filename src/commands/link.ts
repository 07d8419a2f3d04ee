import { linkJson } from "../report/bpftool.ts";
import type { Json } from "../report/json.ts";
import { linkPlaces } from "../report/link-place.ts";
import { linkText } from "../report/text.ts";
import type { LinkInfo } from "../state.ts";
import { LinkType } from "../uapi/names.ts";
import { type Command, command } from "./command.ts";
import { pidsFor } from "./holders.ts";
import { pinsFor } from "./pins.ts";
import { printList } from "./print.ts";
import { parseSelector } from "./select.ts";
import { selectLinks } from "./select-object.ts";
import { openSource, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr link show",
  alias: "list",
  description: "List links, or show one",
  options: ["bpffs"],
  grammar: "[id N | pinned PATH]",
  examples: ["ktstr link show", "ktstr -j link show id 3"],
  async start(context) {
    const selector = parseSelector(context.words, ["id", "pinned"], "link");
    using source = await openSource(context.options, () => false);
    const links = await selectLinks(source, selector);
    const progType = (id: number): number | undefined => source.state.progById(id)?.type;
    const place = linkPlaces(source.state);
    const pins = pinsFor(context, source, "link");
    const pids = pidsFor(source, "link");
    printList(
      context,
      links,
      (link) => ({
        ...linkJson(link, progType),
        ...pins.json(link.id),
        ...pids.json(link.id, cookieOf(link)),
      }),
      (link) => linkText(link, progType, place(link)) + pins.text(link.id) + pids.text(link.id),
      selector.kind === "all",
    );
    warnAll(context, source.state);
    return 0;
  },
});

/** Cookie of a perf_event link, which bpftool prints a second time as `bpf_cookie`. */
function cookieOf({ type, details }: LinkInfo): Json {
  return type === LinkType.perf_event ? (details["cookie"] as Json) : undefined;
}

const link: Command = command({
  name: "ktstr link",
  description: "Links: attachments of programs",
  examples: ["ktstr link show"],
  subCommands: { show: async () => show },
});

export default link;
