/** A task's kernel stack as text and as JSON. */
import type { TaskStack } from "../task-stack.ts";
import { escapeText } from "../text.ts";
import type { Json } from "./json.ts";
import { type FrameLines, lineJson, lineText } from "./symbol.ts";

/** Returns one line per frame, innermost first, as in /proc/PID/stack. A frame in `sources` is followed by its source line. */
export function stackLines({ pid, comm, frames, stopped }: TaskStack, sources?: FrameLines): string[] {
  const lines = frames.flatMap(({ address, symbol }) => {
    const source = sources?.get(symbol);
    const frame = symbol === "" ? `  ${hexOf(address) ?? "?"}` : `  ${escapeText(symbol)}`;
    return source === undefined ? [frame] : [frame, `    ${lineText(source)}`];
  });
  const end = stopped === "" ? [] : [`  (${escapeText(stopped)})`];
  return [`${pid} ${escapeText(comm)}`, ...lines, ...end];
}

const hexOf = (address: bigint | undefined): string | undefined =>
  address === undefined ? undefined : `0x${address.toString(16)}`;

/** A stack in the form of `schema/task-stack.schema.json`. */
export function stackJson({ pid, tgid, comm, frames, stopped }: TaskStack, sources?: FrameLines): Json {
  return {
    schema: "ktstr-task-stack",
    schema_version: 1,
    pid,
    tgid,
    comm: escapeText(comm),
    frames: frames.map(({ address, symbol }) => ({
      address: hexOf(address),
      symbol: symbol === "" ? undefined : escapeText(symbol),
      ...lineJson(sources?.get(symbol)),
    })),
    stopped: stopped === "" ? undefined : escapeText(stopped),
  };
}
