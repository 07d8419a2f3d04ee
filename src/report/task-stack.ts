/** A task's kernel stack as text and as JSON. */
import type { TaskStack } from "../task-stack.ts";
import { escapeText } from "../text.ts";
import type { Json } from "./json.ts";

/** A frame a line, innermost first, as /proc/PID/stack has them. */
export function stackLines({ pid, comm, frames, stopped }: TaskStack): string[] {
  const lines = frames.map(({ address, symbol }) =>
    symbol === "" ? `  ${hexOf(address) ?? "?"}` : `  ${escapeText(symbol)}`,
  );
  const end = stopped === "" ? [] : [`  (${escapeText(stopped)})`];
  return [`${pid} ${escapeText(comm)}`, ...lines, ...end];
}

const hexOf = (address: bigint | undefined): string | undefined =>
  address === undefined ? undefined : `0x${address.toString(16)}`;

/** `schema/task-stack.schema.json`. */
export function stackJson({ pid, tgid, comm, frames, stopped }: TaskStack): Json {
  return {
    schema: "ktstr-task-stack",
    schema_version: 1,
    pid,
    tgid,
    comm: escapeText(comm),
    frames: frames.map(({ address, symbol }) => ({
      address: hexOf(address),
      symbol: symbol === "" ? undefined : escapeText(symbol),
    })),
    stopped: stopped === "" ? undefined : escapeText(stopped),
  };
}
