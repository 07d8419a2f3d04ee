/** Reads the pages of all schedulers of a machine, from its memory or from /sys/kernel/sched_ext. */
import type { KtstrError } from "../errors.ts";
import { schedViews } from "../report/inspect-sched.ts";
import { framesOf, type SchedView, viewsOfSysfs } from "../report/sched-view.ts";
import type { Context } from "./command.ts";
import { fromKernelMemory, type KernelMemory, warnAll } from "./source.ts";

export interface MachineScheds {
  /** "enabled", ... */
  readonly state: string;
  readonly views: readonly SchedView[];
}

/** Reads `--memory`, else the running kernel: from /proc/kcore, or from /sys if its memory is not accessible. Throws `KtstrError`. */
export async function readSchedViews(context: Context): Promise<MachineScheds> {
  const { options } = context;
  const symbols = options.own["lines"] === true ? await import("../report/symbol.ts") : undefined;
  return fromKernelMemory(options, fromMemory, fromSysfs);

  function fromMemory(source: KernelMemory): MachineScheds {
    const sched = schedViews(source.state, options.memory.join(" ") || "the running kernel");
    const names = symbols && new symbols.PlaceNames(source.state);
    const views = sched.views.map((view) =>
      names === undefined ? view : { ...view, frameLines: names.linesOfFrames(framesOf(view)) },
    );
    warnAll(context, source.state);
    return { ...sched, views };
  }

  async function fromSysfs(why: KtstrError): Promise<MachineScheds | undefined> {
    const [{ readSysfsSched }, { realSys }] = await Promise.all([
      import("../live/sched-ext.ts"),
      import("../live/sys.ts"),
    ]);
    const found = readSysfsSched(realSys);
    if (found === undefined) return undefined;
    const sched = { state: found.state, views: viewsOfSysfs(found, why.message) };
    if (sched.views.length === 0)
      context.warn(
        `schedulers that were ejected are not shown, because that needs the kernel's memory: ${why.message}`,
      );
    return sched;
  }
}
