/** `sched` pages of a log: one per dump, or one per notice of an exit if there is no dump. */
import { exitKindOf } from "../sched-text/exit-kinds.ts";
import { readNotices } from "../sched-text/notices.ts";
import type { LogNotice, ParsedLog } from "../sched-text/parse.ts";
import { type SchedView, viewOfDump } from "./sched-view.ts";

/** Returns pages in order of time. `name`: name of the file. */
export function viewsOfLog(log: ParsedLog, name: string): SchedView[] {
  const { dumps, notices, isReversed } = log;
  const order = isReversed ? ", newest line first" : "";
  const views = dumps.map((dump, index) => {
    const lines = [dump.firstLine, dump.lastLine].sort((a, b) => a - b).join("-");
    const which = dumps.length === 1 ? "" : `, dump ${index + 1} of ${dumps.length}`;
    return viewOfDump(dump, `${name}, lines ${lines}${which}${order}`);
  });
  return views.length > 0 ? views : viewsOfNotices(notices, name);
}

function viewsOfNotices(notices: readonly LogNotice[], name: string): SchedView[] {
  return readNotices(notices)
    .filter(({ isEnabled }) => !isEnabled)
    .map(({ line, opsName, reason, message }) =>
      ejectedView(`${name}, line ${line.line}`, opsName, reason, message),
    );
}

function ejectedView(origin: string, opsName: string, reason: string, message: string): SchedView {
  return {
    origin,
    opsName,
    place: undefined,
    cgroupPath: undefined,
    state: "disabled",
    trigger: "",
    exit: {
      kind: exitKindOf(reason),
      reason,
      message,
      comm: "",
      pid: undefined,
      cpu: undefined,
      backtrace: [],
    },
    watchdog: undefined,
    cpus: [],
    othersIdle: false,
    queues: [],
    tasks: [],
    events: [],
    unknown: [],
    notAvailable: [
      "CPUs, queues, tasks and events: the log has no dump, which the scheduler's own program prints on stderr",
    ],
  };
}
