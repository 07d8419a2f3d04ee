/** Kernel log messages about schedulers: `scx_root_enable_workfn`, `scx_log_sched_disable` (kernel/sched/ext). */

export interface SchedNotice<Line> {
  /** The first line of the message. */
  readonly line: Line;
  readonly isEnabled: boolean;
  readonly isSub: boolean;
  readonly opsName: string;
  /** Why the scheduler was disabled: "runnable task stall". */
  readonly reason: string;
  /** "victim-1[134] failed to run for 6.332s"; "" if there is none. */
  readonly message: string;
  /** Functions with offsets. */
  readonly backtrace: readonly string[];
}

const DISABLED = /^sched_ext: BPF (sub-)?scheduler "(.*)" disabled \((.*)\)$/s;
const ENABLED = /^sched_ext: BPF (sub-)?scheduler "(.*)" enabled/s;
/** `stack_trace_print` writes one record per frame. */
const FRAME = /^ +([^\s+]{1,512}\+0x[0-9a-f]{1,16}\/0x[0-9a-f]{1,16}(?: \[[^\]]{1,64}\])?)$/;
/** SCX_EXIT_BT_LEN. */
const MAX_FRAMES = 64;

/** Finds notices. `lines` are in chronological order and have no prefixes. A notice's lines must be consecutive. */
export function readNotices<Line extends { readonly text: string }>(
  lines: readonly Line[],
): SchedNotice<Line>[] {
  const found: SchedNotice<Line>[] = [];
  lines.forEach((line, index) => {
    // Most lines of a log are no notices. This check is faster than the patterns.
    if (!line.text.startsWith("sched_ext: BPF ")) return;
    const enabled = ENABLED.exec(line.text);
    if (enabled !== null) {
      const [, sub, opsName = ""] = enabled;
      const nothing = { reason: "", message: "", backtrace: [] };
      found.push({ line, isEnabled: true, isSub: sub !== undefined, opsName, ...nothing });
      return;
    }
    const disabled = DISABLED.exec(line.text);
    if (disabled === null) return;
    const [, sub, opsName = "", reason = ""] = disabled;
    const start = `sched_ext: ${opsName}: `;
    const following = lines[index + 1]?.text ?? "";
    const message = following.startsWith(start) ? following.slice(start.length) : "";
    const backtrace: string[] = [];
    let next = index + (message === "" ? 1 : 2);
    while (next < lines.length && backtrace.length < MAX_FRAMES) {
      const frame = FRAME.exec(lines[next++]!.text)?.[1];
      if (frame === undefined) break;
      backtrace.push(frame);
    }
    found.push({ line, isEnabled: false, isSub: sub !== undefined, opsName, reason, message, backtrace });
  });
  return found;
}
