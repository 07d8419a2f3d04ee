/** What the kernel's log says of schedulers: `scx_root_enable_workfn`, `scx_log_sched_disable` (kernel/sched/ext). */

export interface SchedNotice<Line> {
  /** The line that begins it. */
  readonly line: Line;
  readonly isEnabled: boolean;
  readonly isSub: boolean;
  readonly opsName: string;
  /** Of a scheduler that was disabled: "runnable task stall". */
  readonly reason: string;
  /** "victim-1[134] failed to run for 6.332s"; "" where there is none. */
  readonly message: string;
  /** Functions with offsets. */
  readonly backtrace: readonly string[];
}

const DISABLED = /^sched_ext: BPF (sub-)?scheduler "(.*)" disabled \((.*)\)$/s;
const ENABLED = /^sched_ext: BPF (sub-)?scheduler "(.*)" enabled/s;
/** `stack_trace_print`: one record a frame. */
const FRAME = /^ +([^\s+]{1,512}\+0x[0-9a-f]{1,16}\/0x[0-9a-f]{1,16}(?: \[[^\]]{1,64}\])?)$/;
/** SCX_EXIT_BT_LEN. */
const MAX_FRAMES = 64;

/** `lines`: the log in the order of time, without prefixes. Other lines between those of a scheduler are no part of it. */
export function readNotices<Line extends { readonly text: string }>(
  lines: readonly Line[],
): SchedNotice<Line>[] {
  const found: SchedNotice<Line>[] = [];
  lines.forEach((line, index) => {
    // Most lines of a log are of something else.
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
    const said = lines[index + 1]?.text ?? "";
    const message = said.startsWith(start) ? said.slice(start.length) : "";
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
