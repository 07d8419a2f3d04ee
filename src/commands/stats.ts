import { UsageError } from "../errors.ts";
import type { Context } from "./command.ts";

const MAX_SECONDS = 86_400;

/**
 * Counts for `--stats SECONDS`, where it was given. Statistics are off again when this returns: counters keep what
 * they counted.
 */
export async function withStats(context: Context): Promise<void> {
  const wanted = context.options.own["stats"];
  if (wanted === undefined) return;
  const seconds = Number(wanted);
  if (wanted === "" || !(seconds > 0 && seconds <= MAX_SECONDS)) {
    throw new UsageError(`--stats ${JSON.stringify(wanted)}: not a number of seconds`, {
      hint: "for example --stats 1",
    });
  }
  if (context.options.memory.length > 0) {
    throw new UsageError("--stats: a frozen machine counts no further");
  }
  const { enableStats } = await import("../live/stats.ts");
  using _switch = enableStats();
  await Bun.sleep(seconds * 1000);
}
