import { readInteger } from "../btf/integer.ts";
import { PathError } from "../btf/place.ts";
import { KtstrError, UsageError } from "../errors.ts";
import { writeFollowed } from "../report/dump-text.ts";
import {
  findGlobal,
  findGlobalAnywhere,
  type Global,
  globalValue,
  mapByName,
} from "../report/find-global.ts";
import { isSection } from "../report/globals.ts";
import { stringify } from "../report/json.ts";
import { styleFor } from "../report/style.ts";
import { text } from "../report/typed.ts";
import type { BpfState } from "../state.ts";
import { escapeText } from "../text.ts";
import { MapType } from "../uapi/names.ts";
import { type Command, type Context, command } from "./command.ts";
import { selectMaps } from "./map-select.ts";
import { countOption } from "./option-values.ts";
import { indentOf } from "./print.ts";
import { parseSelector } from "./select.ts";
import { openSource, type Source, warnAll } from "./source.ts";

const get: Command = command({
  name: "ktstr get",
  description: "Print a global variable, or a part of one",
  grammar: "[MAP | id N] VARIABLE[.member][[index]]",
  options: ["follow"],
  examples: [
    "ktstr get nr_enqueued                      # the attached scheduler's",
    "ktstr get scx_simple.bss 'stats.runs[3]'",
    "ktstr -j get id 12 config",
  ],
  async start(context) {
    const words = [...context.words];
    if (words.length === 0) throw new UsageError("get: no variable given");
    if (words.length > 3 || (words.length === 3 && words[0] !== "id"))
      throw new UsageError(`get: unexpected arguments: ${words.slice(words[0] === "id" ? 3 : 2).join(" ")}`);
    using source = await openSource(context.options, (map) => isSection(map) || map.type === MapType.arena);
    print(context, source.state, await find(source, words));
    warnAll(context, source.state);
    return 0;
  },
});

export default get;

async function find(source: Source, words: readonly string[]): Promise<Global> {
  const { state } = source;
  const path = words.at(-1) ?? "";
  try {
    if (words.length === 1) return findGlobalAnywhere(state, path);
    if (words.length === 2) return findGlobal(state, mapByName(state, words[0] ?? ""), path);
    const [map] = await selectMaps(source, parseSelector(words.slice(0, 2), ["id"], "map"));
    return findGlobal(state, map!, path);
  } catch (error) {
    if (!(error instanceof PathError)) throw error;
    throw new UsageError(`get ${path}: ${error.message}`, { hint: error.hint });
  }
}

/** Prints the bare value for scripts: digits, text without quotes, an enumerator's name, or a hexadecimal address. */
function print(context: Context, state: BpfState, global: Global): void {
  const { out, options } = context;
  const { map, variable, place } = global;
  const value = globalValue(global);
  if (value === null) throw new KtstrError(`get: the bytes of ${variable.name} are missing`);
  if (options.json) {
    out.line(stringify(value, indentOf(context)));
    return;
  }
  const style = styleFor(state, map, {
    follow: countOption(options, "follow", "steps") ?? 0,
    declarations: false,
  });
  const type = { btf: variable.type.btf, id: place.typeId };
  const bytes = variable.bytes.subarray(place.byteOffset);
  if (place.shape.kind === "pointer") out.line(`0x${BigInt(readInteger(bytes, 0, 8, false)).toString(16)}`);
  else if (typeof value === "string") out.line(escapeText(value));
  else if (typeof value === "object") out.line(text(type, bytes, style.text));
  else out.line(String(value));
  if (place.bitSize === 0) writeFollowed(out, style, type, [bytes]);
}
