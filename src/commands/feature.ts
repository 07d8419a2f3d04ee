import { UsageError } from "../errors.ts";
import { featuresJson, featuresMacros, featuresText } from "../report/feature.ts";
import { stringify } from "../report/json.ts";
import { isPrefix } from "./bpftool-words.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { openSource, warnAll } from "./source.ts";

interface Words {
  readonly full: boolean;
  /** Prefix of macros; undefined if no macros are printed. */
  readonly prefix: string | undefined;
}

/** Parses the words after `feature probe`, in any order as in bpftool. Throws `UsageError`. */
function wordsOf(words: readonly string[]): Words {
  let full = false;
  let prefix: string | undefined;
  let component = "";
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!;
    if (isPrefix(word, "kernel")) {
      if (component !== "") throw new UsageError("feature probe: the component is given twice");
      component = word;
    } else if (isPrefix(word, "dev"))
      throw new UsageError("feature probe: ktstr does not probe network cards", {
        hint: "use `bpftool feature probe dev NAME`",
      });
    else if (isPrefix(word, "full")) full = true;
    else if (isPrefix(word, "macros") && prefix === undefined) prefix = "";
    else if (isPrefix(word, "prefix")) {
      const given = words[++index];
      if (prefix !== "" || given === undefined)
        throw new UsageError('feature probe: "prefix PREFIX" is allowed once, after "macros"');
      prefix = given;
    } else if (isPrefix(word, "unprivileged"))
      throw new UsageError("feature probe: ktstr does not probe without privileges", {
        hint: "use `bpftool feature probe unprivileged`",
      });
    else
      throw new UsageError(
        `feature probe: ${JSON.stringify(word)} is not one of kernel, full, macros, prefix`,
      );
  }
  return { full, prefix };
}

const probe: Command = command({
  name: "ktstr feature probe",
  description: "Show the kernel's BPF features: configuration, program types, map types, helpers",
  grammar: "[kernel] [full] [macros [prefix PREFIX]]",
  examples: ["ktstr feature probe", "ktstr -j feature probe kernel", "ktstr feature probe --memory mem"],
  async start(context) {
    const { out, options } = context;
    const { full, prefix } = wordsOf(context.words);
    using source = await openSource(options, () => false);
    const features = source.state.features(full);
    if (options.json) out.line(stringify(featuresJson(features), indentOf(context)));
    else if (prefix !== undefined) out.line(featuresMacros(features, prefix, full));
    else out.line(featuresText(features));
    for (const sentence of features.problems) context.warn(sentence);
    warnAll(context, source.state);
    return 0;
  },
});

const feature: Command = command({
  name: "ktstr feature",
  description: "BPF features of the kernel",
  examples: ["ktstr feature probe"],
  subCommands: { probe: async () => probe },
});

export default feature;
