/** Opens what a command reads: the running kernel, or a memory file. */
import { UsageError } from "../errors.ts";
import { type LiveState, openLive } from "../live/live.ts";
import type { BpfState, MapInfo } from "../state.ts";
import type { Context, Options } from "./command.ts";

export interface Source extends Disposable {
  readonly state: BpfState;
  /** Set where the running kernel is read: pinned paths and descriptors exist only there. */
  readonly live: LiveState | undefined;
}

/** `keep` chooses the maps whose contents will be read. */
export function openSource(options: Options, keep: (map: MapInfo) => boolean): Source {
  if (options.memory.length > 0) throw new UsageError("--memory: reading a memory file is not there yet");
  if (options.vmlinux !== undefined) throw new UsageError("--vmlinux goes with --memory");
  const live = openLive({ keep });
  return { state: live, live, [Symbol.dispose]: () => live[Symbol.dispose]() };
}

/** Hands everything that the listing could not read to stderr. */
export function warnAll(context: Context, state: BpfState): void {
  for (const sentence of state.warnings) context.warn(sentence);
}
