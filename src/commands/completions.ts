import { KtstrError, UsageError } from "../errors.ts";
import type { BpfState } from "../state.ts";
import { type Command, type Context, command } from "./command.ts";
import { complete } from "./complete.ts";
import { SCRIPTS, type Shell } from "./completion-scripts.ts";
import { refuseMemory } from "./source.ts";

const completions: Command = command({
  name: "ktstr completions",
  description: "Print a shell's completion script",
  grammar: "bash|zsh|fish|words [-- WORD ...]",
  examples: [
    "ktstr completions bash > /etc/bash_completion.d/ktstr",
    "ktstr completions zsh > ~/.zfunc/_ktstr   # a folder of $fpath",
    "ktstr completions fish > ~/.config/fish/completions/ktstr.fish",
    "ktstr completions words -- map dump i   # used by the scripts",
  ],
  async start(context) {
    refuseMemory(context.options, "completions");
    const [word, ...rest] = context.words;
    if (rest.length > 0) throw new UsageError(`completions ${word}: unexpected arguments: ${rest.join(" ")}`);
    if (word === "words") {
      await printWords(context);
      return 0;
    }
    const shells = Object.keys(SCRIPTS).join(", ");
    if (word === undefined) throw new UsageError(`completions: no shell given: ${shells}`);
    if (!Object.hasOwn(SCRIPTS, word))
      throw new UsageError(`completions: ${JSON.stringify(word)} is not one of ${shells}`);
    if (context.tail !== undefined) throw new UsageError(`completions ${word}: takes no words after \`--\``);
    context.out.text(SCRIPTS[word as Shell]);
    return 0;
  },
});

export default completions;

/** Prints the kind of the answer, "words" or "files", then one word per line with a tab and its description. */
async function printWords({ root, tail, out }: Context): Promise<void> {
  if (tail === undefined) throw new UsageError("completions words: no words given: -- WORD ...");
  const found = await complete(root, tail, openKernel);
  out.line(found.kind);
  if (found.kind === "words")
    for (const { word, description } of found.words) out.line(`${word}\t${description}`);
}

/** Opens the running kernel. Returns undefined without the privilege to read it; then no object names are completed. */
async function openKernel(): Promise<(BpfState & Disposable) | undefined> {
  const { openLive } = await import("../live/live.ts");
  try {
    const live = openLive({ keep: () => false });
    live.maps();
    return live;
  } catch (error) {
    if (error instanceof KtstrError) return undefined;
    throw error;
  }
}
