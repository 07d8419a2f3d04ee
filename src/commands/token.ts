import { UsageError } from "../errors.ts";
import { tokenJson, tokenText } from "../report/token.ts";
import { type Command, command } from "./command.ts";
import { printList } from "./print.ts";
import { openSource, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr token show",
  alias: "list",
  description: "List the bpf file systems that BPF tokens can be created from",
  examples: ["ktstr token list", "ktstr -j token list --memory mem"],
  async start(context) {
    const [word] = context.words;
    if (word !== undefined) throw new UsageError(`token show: unexpected arguments: ${word}`);
    using source = await openSource(context.options, () => false);
    printList(context, source.state.tokenMounts(), tokenJson, tokenText, true);
    warnAll(context, source.state);
    return 0;
  },
});

const token: Command = command({
  name: "ktstr token",
  description: "File systems that BPF tokens can be created from",
  examples: ["ktstr token list"],
  subCommands: { show: async () => show },
});

export default token;
