/** bpftool's commands in bpftool's order, for abbreviations and for errors about commands that ktstr does not have. */
import { UsageError } from "../errors.ts";

/**
 * The tables `commands` of tools/bpf/bpftool/main.c and `cmds` of its other files, 7.8. `cmd_select` takes the first entry
 * that has the word as a prefix (`is_prefix`): `map p` is `map pin`, although `map peek` and `map push` match too.
 */
const WORDS: Readonly<Record<string, string>> = {
  ktstr: "help batch prog map link cgroup perf net feature btf gen struct_ops iter token version",
  "ktstr prog": "show list help dump pin load loadall attach detach tracelog run profile",
  "ktstr map":
    "show list help dump update lookup getnext delete pin event_pipe create peek push enqueue pop dequeue freeze",
  "ktstr link": "show list help pin detach",
  "ktstr btf": "show list help dump",
  "ktstr cgroup": "show list tree attach detach help",
  "ktstr perf": "show list help",
  "ktstr net": "show list attach detach help",
  "ktstr feature": "probe list_builtins help",
  "ktstr token": "show list help",
  "ktstr struct_ops": "show list register unregister dump help",
};

/** bpftool's comparison (main.c), except that "" matches nothing. */
export const isPrefix = (word: string, whole: string): boolean => word !== "" && whole.startsWith(word);

/** Returns bpftool's command for an abbreviation: "show" for "s" after "ktstr map". */
export function bpftoolWord(command: string, word: string): string | undefined {
  const words = Object.hasOwn(WORDS, command) ? WORDS[command] : undefined;
  return words?.split(" ").find((candidate) => isPrefix(word, candidate));
}

/** Commands that change something. bpftool's other commands that are missing here only read. */
const CHANGES: Readonly<Record<string, string>> = {
  ktstr: "iter",
  "ktstr prog": "pin load loadall attach detach run",
  "ktstr map": "create update delete pin push pop enqueue dequeue freeze",
  "ktstr link": "pin detach",
  "ktstr cgroup": "attach detach",
  "ktstr net": "attach detach",
  "ktstr struct_ops": "register unregister",
};

/** Commands of ktstr that are closest to a missing one. */
const NEAREST: Readonly<Record<string, string>> = {
  "ktstr map pin": "`ktstr pin NAME` holds a map open without a path",
};

/** Throws `UsageError` for a command of bpftool that ktstr does not have. `own` are ktstr's commands that also match. */
export function refuseBpftoolWord(parent: string, theirs: string, own: readonly string[]): never {
  const whole = `${parent} ${theirs}`;
  const changes = CHANGES[parent]?.split(" ").includes(theirs) ?? false;
  const has = changes ? `ktstr only reads, and has no "${theirs}"` : `ktstr has no "${theirs}"`;
  const hints = [
    `use \`${whole.replace(/^ktstr/, "bpftool")}\``,
    ...(NEAREST[whole] === undefined ? [] : [NEAREST[whole]]),
    ...(own.length === 0 ? [] : [`ktstr's own: ${own.join(", ")}`]),
  ];
  throw new UsageError(`${parent}: ${has}`, { hint: hints.join("; ") });
}
