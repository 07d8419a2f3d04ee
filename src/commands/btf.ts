import { btfJson } from "../report/bpftool.ts";
import { btfText } from "../report/text.ts";
import { type Command, command, described } from "./command.ts";
import { pidsFor } from "./holders.ts";
import { printList } from "./print.ts";
import { parseSelector } from "./select.ts";
import { selectBtfs } from "./select-object.ts";
import { openSource, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr btf show",
  alias: "list",
  description: "List BTF objects and their users, or show one",
  grammar: "[id N]",
  examples: ["ktstr btf show", "ktstr -j btf show id 1"],
  async start(context) {
    const selector = parseSelector(context.words, ["id"], "btf");
    using source = await openSource(context.options, () => false);
    const { state } = source;
    const btfs = await selectBtfs(source, selector);
    const progs = state.progs();
    const maps = state.maps();
    const pids = pidsFor(source, "btf");
    printList(
      context,
      btfs,
      (btf) => ({ ...(btfJson(btf, progs, maps) as object), ...pids.json(btf.id) }),
      (btf) => btfText(btf, progs, maps) + pids.text(btf.id),
      selector.kind === "all",
    );
    warnAll(context, state);
    return 0;
  },
});

const btf: Command = command({
  name: "ktstr btf",
  description: "BTF: the types of the kernel and of BPF objects",
  examples: ["ktstr btf show", "ktstr btf dump vmlinux format c"],
  subCommands: {
    show: async () => show,
    dump: described(
      "Print types as C, or as stored in BTF",
      async () => (await import("./btf-dump.ts")).default,
    ),
  },
});

export default btf;
