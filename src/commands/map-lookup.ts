/** `map lookup`, `map peek` and `map getnext` in bpftool's grammar (tools/bpf/bpftool/map.c, do_lookup and do_getnext). */
import { KtstrError, UsageError } from "../errors.ts";
import { writeEntryJson } from "../report/dump.ts";
import { writeElement } from "../report/dump-bpftool.ts";
import { dumpText } from "../report/dump-text.ts";
import { stringify } from "../report/json.ts";
import { keyFromText, keyFromWords } from "../report/key.ts";
import { singleElement } from "../report/query.ts";
import { styleFor } from "../report/style.ts";
import { typesOf, untypedReason } from "../report/typed.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { isPrefix } from "./bpftool-words.ts";
import { type Command, type Context, command, type ExitStatus } from "./command.ts";
import { neededFor, selectOneMap, takeMapSelector } from "./map-contents.ts";
import { countOption, isPlainBpftool, textOption } from "./option-values.ts";
import { indentOf } from "./print.ts";
import { openSource, type Source, warnAll } from "./source.ts";

const GRAMMAR = "id N | name NAME | pinned PATH";
const DATA = "key [hex] BYTES";

export const lookup: Command = command({
  name: "ktstr map lookup",
  description: "Print the value of a key",
  grammar: `{ ${GRAMMAR} } [${DATA}]`,
  options: ["key", "follow", "plain"],
  examples: ["ktstr map lookup id 12 key 1 0 0 0", "ktstr map lookup name tasks --key 42"],
  start: (context) => withMap(context, "map lookup", lookUpAs("map lookup")),
});

/** As in bpftool, `peek` is `lookup`: for maps with keys it takes a key. */
export const peek: Command = command({
  name: "ktstr map peek",
  description: "Print the next element of a queue or stack without removing it",
  grammar: `{ ${GRAMMAR} }`,
  options: ["follow", "plain"],
  examples: ["ktstr map peek id 12", "ktstr -j map peek pinned /sys/fs/bpf/events"],
  start: (context) => withMap(context, "map peek", lookUpAs("map peek")),
});

export const getNext: Command = command({
  name: "ktstr map getnext",
  description: "Print the key after a key, or the first key",
  grammar: `{ ${GRAMMAR} } [${DATA}]`,
  options: ["key"],
  examples: ["ktstr map getnext id 12", "ktstr map getnext id 12 key hex 01 00 00 00"],
  start: (context) => withMap(context, "map getnext", printNext),
});

type Work = (context: Context, source: Source, map: MapInfo, key: Uint8Array | undefined) => ExitStatus;

async function withMap(context: Context, what: string, work: Work): Promise<ExitStatus> {
  const words = [...context.words];
  const selector = takeMapSelector(words, what);
  const [word, ...data] = words;
  if (word !== undefined && !isPrefix(word, "key"))
    throw new UsageError(`${what}: expected key, got: ${word}`);
  using source = await openSource(context.options, neededFor(selector));
  const map = await selectOneMap(source, selector);
  const text = textOption(context.options, "key");
  if (text !== undefined && word !== undefined) throw new UsageError(`${what}: two keys given`);
  const key =
    text !== undefined
      ? keyFromText(text, map, typesOf(source.state, map))
      : word === undefined
        ? undefined
        : keyFromWords(data, map);
  const status = work(context, source, map, key);
  warnAll(context, source.state);
  return status;
}

/** Queues and stacks are looked up without a key. */
const lookUpAs =
  (what: string): Work =>
  (context, { state }, map, key) => {
    const { out, options } = context;
    const isPlain = isPlainBpftool(options);
    if (key === undefined && map.keySize > 0) throw new UsageError(`${what}: which key? ${DATA}`);
    const keyBytes = key ?? new Uint8Array();
    const answer = state.lookup(map, keyBytes);
    if (!answer.ok && answer.why.reason === "not-present") {
      if (options.json) out.line("null");
      else out.text("key:\n").hex(keyBytes, 0, keyBytes.length).line("\n\nNot found");
      return 1;
    }
    const contents = singleElement(map, keyBytes, answer);
    if (contents.kind === "unreadable") throw new KtstrError(`${what} ${map.id}: ${contents.why.detail}`);
    const follow = countOption(options, "follow", "steps") ?? 0;
    if (isPlain && follow > 0)
      throw new UsageError(`${what}: --plain bpftool cannot be combined with --follow`);
    const style = styleFor(state, map, { follow, declarations: false });
    if (contents.kind !== "entries" || !(options.json || isPlain)) dumpText(out, map, contents, style);
    else {
      // The element alone as in bpftool, without an array around it.
      using walk = contents.cursor;
      walk.next();
      if (isPlain) writeElement(out, { map, types: style.types, cursor: walk });
      else {
        writeEntryJson(out, map, walk, style);
        out.line();
      }
    }
    const untyped = untypedReason(state, map);
    if (untyped === undefined) return 0;
    context.warn(`map ${map.id}: shown as bytes, its types cannot be read: ${untyped}`);
    return 1;
  };

/** The running kernel returns the next key; a frozen kernel's keys are walked in the same order. */
function printNext(
  context: Context,
  { state }: Source,
  map: MapInfo,
  key: Uint8Array | undefined,
): ExitStatus {
  const { out, options } = context;
  const next = nextKey(state, map, key);
  if (next === undefined)
    throw new KtstrError(`map getnext ${map.id}: there is no next key`, {
      hint: key === undefined ? "the map is empty" : "it was the last one",
    });
  const hex = (bytes: Uint8Array): string[] =>
    Array.from(bytes, (byte) => `0x${byte.toString(16).padStart(2, "0")}`);
  if (options.json) {
    out.line(stringify({ key: key === undefined ? null : hex(key), next_key: hex(next) }, indentOf(context)));
    return 0;
  }
  if (key === undefined) out.line("key: None");
  else out.text("key:\n").hex(key, 0, key.length).line();
  out.text("next key:\n").hex(next, 0, next.length).line();
  return 0;
}

/** For a missing key the kernel returns the first key (kernel/bpf/hashtab.c, htab_map_get_next_key). */
function nextKey(state: BpfState, map: MapInfo, key: Uint8Array | undefined): Uint8Array | undefined {
  if (state.nextKey !== undefined) {
    const next = state.nextKey(map, key);
    if (next.ok) return next.value;
    if (next.why.reason === "not-present") return undefined;
    throw new KtstrError(`map getnext ${map.id}: ${next.why.detail}`);
  }
  const contents = state.contents(map);
  if (contents.kind !== "entries") throw new UsageError(`map getnext: map ${map.id} has no keys`);
  using walk = contents.cursor;
  let first: Uint8Array | undefined;
  let isFound = key === undefined;
  while (walk.next()) {
    const current = walk.keyBytes.subarray(walk.keyOffset, walk.keyOffset + walk.keySize);
    if (isFound) return current.slice();
    first ??= current.slice();
    isFound = Buffer.compare(current, key!) === 0;
  }
  return isFound ? undefined : first;
}
