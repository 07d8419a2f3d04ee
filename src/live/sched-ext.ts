/** Reads /sys/kernel/sched_ext (kernel/sched/ext/ext.c, `scx_global_attrs` and `scx_sched_attrs`). */
import type { SysfsSched, SysfsScheduler } from "../sched-state.ts";
import type { Sys } from "./sys.ts";

const FOLDER = "/sys/kernel/sched_ext";
/** SCX_SUB_MAX_DEPTH is 4. */
const MAX_DEPTH = 8;
const MAX_SCHEDULERS = 4096;

/** Returns undefined if this kernel has no sched_ext or /sys is not mounted. */
export function readSysfsSched(sys: Sys): SysfsSched | undefined {
  const text = (path: string): string | undefined => {
    const bytes = sys.readFile(`${FOLDER}/${path}`);
    return bytes === undefined ? undefined : new TextDecoder().decode(bytes).trim();
  };
  const count = (path: string): bigint | undefined => {
    const value = text(path) ?? "";
    return /^\d{1,20}$/.test(value) ? BigInt(value) : undefined;
  };
  const state = text("state");
  if (state === undefined) return undefined;
  const switchAll = text("switch_all");
  const schedulers: SysfsScheduler[] = [];
  add("root", "root", 0);
  return {
    state,
    isSwitchedAll: switchAll === undefined ? undefined : switchAll === "1",
    counts: {
      nrRejected: count("nr_rejected"),
      hotplugSeq: count("hotplug_seq"),
      enableSeq: count("enable_seq"),
    },
    schedulers,
  };

  /** Since 7.1 the sub-schedulers of a scheduler are in `sub/sub-<cgroup id>`. */
  function add(path: string, place: string, level: number): void {
    const ops = text(`${path}/ops`);
    if (ops === undefined || schedulers.length === MAX_SCHEDULERS) return;
    schedulers.push({ opsName: ops, place, events: eventsIn(text(`${path}/events`) ?? "") });
    if (level === MAX_DEPTH) return;
    for (const name of sys.readDirectory(`${FOLDER}/${path}/sub`)) {
      const id = /^sub-(\d{1,20})$/.exec(name)?.[1];
      if (id !== undefined) add(`${path}/sub/${name}`, `sub${level + 1}-${id}`, level + 1);
    }
  }
}

/** Parses lines such as "SCX_EV_SELECT_CPU_FALLBACK 0". The file exists since 6.15. */
function eventsIn(text: string): SysfsScheduler["events"] {
  return [...text.matchAll(/^(SCX_EV_\w{1,100}) (-?\d{1,20})$/gm)].map(([, name = "", count = "0"]) => ({
    name,
    count: BigInt(count),
  }));
}
