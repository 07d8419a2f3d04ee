/** sched_ext's part of `inspect`: the first lines of the `sched` page. */
import { KtstrError } from "../errors.ts";
import type { SchedAccessor } from "../sched-state.ts";
import type { BpfState } from "../state.ts";
import { dsqNames } from "./dsq-names.ts";
import { type Finding, findingsOf } from "./sched-findings.ts";
import { type SchedView, viewsOfReport } from "./sched-view.ts";

export interface InspectedSched {
  readonly view: SchedView;
  readonly findings: readonly Finding[];
}

/** Returns one item per scheduler; none if the source has no data of sched_ext, such as a running kernel or an older capture. */
export function inspectSched(state: BpfState & Partial<SchedAccessor>): readonly InspectedSched[] {
  try {
    return state.scheduler === undefined
      ? []
      : schedViews(state as BpfState & SchedAccessor, "").views.map(inspected);
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    return [];
  }
}

const inspected = (view: SchedView): InspectedSched => ({ view, findings: findingsOf(view) });

/** Returns the `sched` pages of a machine's memory, with names of dispatch queues from the schedulers' BTF. Throws `KtstrError`. */
export function schedViews(
  state: BpfState & SchedAccessor,
  origin: string,
): { readonly state: string; readonly views: SchedView[] } {
  const report = state.scheduler();
  const views = viewsOfReport(report, origin).map((view, index): SchedView => {
    const ids = view.queues.filter(({ kind }) => kind === "user").map(({ id }) => id);
    return { ...view, dsqNames: dsqNames(state, ids, report.schedulers[index]?.mapId) };
  });
  return { state: report.state, views };
}
