import type { CgroupQuery } from "../attachments.ts";
import { UsageError } from "../errors.ts";
import { cgroupHeading, cgroupJson, cgroupProgJson, cgroupProgText } from "../report/cgroup.ts";
import { printable } from "../text.ts";
import { isPrefix } from "./bpftool-words.ts";
import { type Command, command } from "./command.ts";
import { printList } from "./print.ts";
import { openSource, warnAll } from "./source.ts";

/** Parses the words after `cgroup show` or `tree`: a path and "effective". Throws `UsageError`. */
function queryOf(words: readonly string[], isTree: boolean): CgroupQuery {
  const [path, effective, ...rest] = words;
  if (path === undefined && !isTree) throw new UsageError("cgroup show: no cgroup given");
  if (rest.length > 0 || (effective !== undefined && !isPrefix(effective, "effective")))
    throw new UsageError(`cgroup: ${JSON.stringify(rest[0] ?? effective)} is not "effective"`);
  return { path, isTree, isEffective: effective !== undefined };
}

const show: Command = command({
  name: "ktstr cgroup show",
  alias: "list",
  description: "List the programs that are attached to a cgroup, or that run for it",
  grammar: "CGROUP [effective]",
  examples: [
    "ktstr cgroup show /sys/fs/cgroup/batch",
    "ktstr -j cgroup show /sys/fs/cgroup/batch effective",
    "ktstr cgroup show /batch --memory mem",
  ],
  async start(context) {
    const query = queryOf(context.words, false);
    using source = await openSource(context.options, () => false);
    const { state } = source;
    const progs = state.cgroups(query).flatMap((cgroup) => cgroup.progs);
    if (progs.length > 0 && !context.options.json) context.out.line(cgroupHeading(false, query.isEffective));
    printList(
      context,
      progs,
      (prog) => cgroupProgJson(state, prog),
      (prog) => cgroupProgText(state, prog, 0),
      true,
    );
    warnAll(context, state);
    return 0;
  },
});

const tree: Command = command({
  name: "ktstr cgroup tree",
  description: "List the programs of every cgroup of a hierarchy",
  grammar: "[CGROUP [effective]]",
  examples: [
    "ktstr cgroup tree",
    "ktstr cgroup tree /sys/fs/cgroup effective",
    "ktstr -j cgroup tree --memory mem",
  ],
  async start(context) {
    const query = queryOf(context.words, true);
    using source = await openSource(context.options, () => false);
    const { state } = source;
    const cgroups = state.cgroups(query);
    if (!context.options.json) context.out.line(cgroupHeading(true, query.isEffective));
    printList(
      context,
      cgroups,
      (cgroup) => cgroupJson(state, cgroup),
      ({ path, level, progs }) =>
        [printable(path), ...progs.map((prog) => cgroupProgText(state, prog, level))].join("\n"),
      true,
    );
    warnAll(context, state);
    return 0;
  },
});

const cgroup: Command = command({
  name: "ktstr cgroup",
  description: "Programs that are attached to cgroups, by a link or without",
  examples: ["ktstr cgroup tree", "ktstr cgroup show /sys/fs/cgroup effective"],
  subCommands: { show: async () => show, tree: async () => tree },
});

export default cgroup;
