import { UsageError } from "../errors.ts";
import type { StatsInterval } from "../report/interval.ts";
import type { Context } from "./command.ts";

const MAX_SECONDS = 86_400;

/**
 * Enables run-time statistics for the time of `--stats SECONDS`, if given. The returned interval begins with that time and
 * ends at the next reading. Statistics are disabled again when this returns; counters keep their values.
 */
export async function withStats(context: Context): Promise<StatsInterval | undefined> {
  const wanted = context.options.own["stats"];
  if (wanted === undefined) return undefined;
  const seconds = Number(wanted);
  if (wanted === "" || !(seconds > 0 && seconds <= MAX_SECONDS)) {
    throw new UsageError(`--stats ${JSON.stringify(wanted)}: not a number of seconds`, {
      hint: "for example --stats 1",
    });
  }
  if (context.options.memory.length > 0) {
    throw new UsageError("--stats: a frozen machine's counters do not change");
  }
  const [{ enableStats }, { openLive }, { intervalSince }] = await Promise.all([
    import("../live/stats.ts"),
    import("../live/live.ts"),
    import("../report/interval.ts"),
  ]);
  using _switch = enableStats();
  using live = openLive({ keep: () => false });
  const before = live.progs();
  const started = performance.now();
  await Bun.sleep(seconds * 1000);
  return intervalSince(before, (performance.now() - started) / 1000);
}
