import { UsageError } from "../errors.ts";
import { netfilterLinks, networkJson, networkText } from "../report/net.ts";
import { isPrefix } from "./bpftool-words.ts";
import { type Command, command } from "./command.ts";
import { printList } from "./print.ts";
import { openSource, warnAll } from "./source.ts";

/** Parses the device after `net show`; undefined for all. Throws `UsageError`. */
function deviceOf(words: readonly string[]): string | undefined {
  const [dev, name, ...rest] = words;
  if (dev === undefined) return undefined;
  if (!isPrefix(dev, "dev") || rest.length > 0)
    throw new UsageError(`net show: ${JSON.stringify(rest[0] ?? dev)} is not "dev NAME"`);
  if (name === undefined) throw new UsageError("net show dev: no device given");
  return name;
}

const show: Command = command({
  name: "ktstr net show",
  alias: "list",
  description:
    "List the programs on network devices and in network namespaces: xdp, tc, netkit, flow dissector, netfilter",
  grammar: "[dev NAME]",
  examples: ["ktstr net show", "ktstr -j net show dev eth0", "ktstr net show --memory mem"],
  async start(context) {
    const devname = deviceOf(context.words);
    using source = await openSource(context.options, () => false);
    const { state } = source;
    const networks = state.networks(devname);
    const netfilter = netfilterLinks(state.links());
    // bpftool's text covers one namespace and has no heading.
    const heading = (ino: number | undefined): string =>
      networks.length === 1 ? "" : `network namespace ${ino}\n\n`;
    printList(
      context,
      networks,
      (network) => networkJson(state, network, netfilter),
      (network) => heading(network.netnsIno) + networkText(state, network, netfilter),
      true,
    );
    warnAll(context, state);
    return 0;
  },
});

const net: Command = command({
  name: "ktstr net",
  description: "Programs on network devices and in network namespaces, by a link or without",
  examples: ["ktstr net show"],
  subCommands: { show: async () => show },
});

export default net;
