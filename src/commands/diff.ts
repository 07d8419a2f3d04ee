import { UsageError } from "../errors.ts";
import { buildDiff } from "../report/diff.ts";
import { diffJson } from "../report/diff-json.ts";
import { writeDiff } from "../report/diff-text.ts";
import { stringify } from "../report/json.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { recordedSnapshots, snapshotOf } from "./snapshot.ts";
import { terminalStyle } from "./terminal.ts";

const diff: Command = command({
  name: "ktstr diff",
  description: "Show what changed between two snapshots: costs as rates, globals, maps, schedulers",
  grammar: "A [B]",
  examples: [
    "ktstr diff mem.before mem.after   # two memory images, cores or captures",
    "ktstr diff before.json            # a saved `ktstr -j inspect`, and the running kernel",
    "ktstr diff run.ktstr             # the first and the last round of a record",
    "ktstr -j diff before.json after.json",
  ],
  async start(context) {
    const { words, options, out } = context;
    const [first, second, ...rest] = words;
    if (first === undefined)
      throw new UsageError("diff: no files given: A and B are memory images, captures or saved reports");
    if (rest.length > 0) throw new UsageError(`diff: unexpected arguments: ${rest.join(" ")}`);
    if (options.memory.length > 0)
      throw new UsageError("diff: --memory cannot be combined with files to compare", {
        hint: "ktstr diff A B, without --memory",
      });
    // A record alone is compared within itself; with another file its last round is used.
    const ends = second === undefined ? recordedSnapshots(first) : undefined;
    const [a, b] = ends ?? [await snapshotOf(context, first), await snapshotOf(context, second)];
    const names = [a.source, b.source] as const;
    const built = buildDiff(a.snapshot, b.snapshot);
    if (options.json) out.line(stringify(diffJson(built, names), indentOf(context)));
    else writeDiff(out, built, names, terminalStyle());
    return 0;
  },
});

export default diff;
