import pkg from "../../package.json" with { type: "json" };
import { UsageError } from "../errors.ts";
import { type Json, stringify } from "../report/json.ts";
import { type Command, type Context, command } from "./command.ts";
import { indentOf } from "./print.ts";

const version: Command = command({
  name: "ktstr version",
  description: "Print the version, or the licenses of the code that ktstr contains",
  grammar: "[licenses]",
  examples: [
    "ktstr version",
    "ktstr -j version        # bpftool's keys",
    "ktstr version licenses  # of the packages that the executable contains",
  ],
  async start(context) {
    const [word, ...rest] = context.words;
    if (rest.length > 0 || (word !== undefined && word !== "licenses"))
      throw new UsageError(`version: unexpected arguments: ${context.words.join(" ")}`);
    if (word === undefined) return printVersion(context);
    if (context.options.json) throw new UsageError("version licenses: prints text only", { hint: "omit -j" });
    context.out.text((await import("./licenses.ts")).licensesText());
    return 0;
  },
});

export default version;

/** Values of bpftool's keys (tools/bpf/bpftool/main.c, do_version): ktstr has none of these features. */
const BPFTOOL_KEYS: { readonly [key: string]: Json } = {
  libbpf_version: null,
  features: { libbfd: false, llvm: false, crypto: false, skeletons: false, bootstrap: false },
};

export function printVersion(context: Pick<Context, "out" | "options">): 0 {
  const { out, options } = context;
  if (options.json)
    out.line(
      stringify({ version: pkg.version, ...BPFTOOL_KEYS, bun_version: Bun.version }, indentOf(context)),
    );
  else out.line(`ktstr v${pkg.version}`).line(`using Bun ${Bun.version}, and no libbpf`);
  return 0;
}
