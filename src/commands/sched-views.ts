/** The pages of a machine's schedulers, from its memory or from /sys/kernel/sched_ext. */
import type { KtstrError } from "../errors.ts";
import { schedViews } from "../report/inspect-sched.ts";
import { framesOf, type SchedView, viewsOfSysfs } from "../report/sched-view.ts";
import type { Context } from "./command.ts";
import { fromKernelMemory, type KernelMemory, warnAll } from "./source.ts";

export interface ToldSched {
  /** "enabled", ... */
  readonly state: string;
  readonly views: readonly SchedView[];
}

/** Of the running kernel from /proc/kcore, or where it does not give its memory from /sys. Throws `KtstrError`. */
export async function readSchedViews(context: Context): Promise<ToldSched> {
  const { options } = context;
  const symbols = options.own["lines"] === true ? await import("../report/symbol.ts") : undefined;
  return fromKernelMemory(options, fromMemory, bySysfs);

  function fromMemory(source: KernelMemory): ToldSched {
    const told = schedViews(source.state, options.memory.join(" ") || "the running kernel");
    const names = symbols && new symbols.PlaceNames(source.state);
    const views = told.views.map((view) =>
      names === undefined ? view : { ...view, frameLines: names.linesOfFrames(framesOf(view)) },
    );
    warnAll(context, source.state);
    return { ...told, views };
  }

  async function bySysfs(why: KtstrError): Promise<ToldSched | undefined> {
    const [{ readSysfsSched }, { realSys }] = await Promise.all([
      import("../live/sched-ext.ts"),
      import("../live/sys.ts"),
    ]);
    const found = readSysfsSched(realSys);
    if (found === undefined) return undefined;
    const told = { state: found.state, views: viewsOfSysfs(found, why.message) };
    if (told.views.length === 0)
      context.warn(`of a scheduler that was ejected only the kernel's memory tells: ${why.message}`);
    return told;
  }
}
