/** sched_ext's part of `diff` as text. */
import { escapeText } from "../text.ts";
import type { Diff } from "./diff.ts";
import type { ChangedQueue } from "./diff-sched.ts";
import type { Style } from "./inspection-text.ts";
import type { Output } from "./output.ts";
import { rateText, writeRows } from "./rows.ts";
import { countText } from "./units.ts";

/** Limit on printed queues, because there may be one per cgroup or CPU. JSON has all. */
const SHOWN_QUEUES = 16;

export function writeSched(out: Output, { sched, sameBoot, elapsedNs }: Diff, style: Style): void {
  const { events, queues } = sched;
  if (events.length > 0) {
    out.line(`\n${style.heading(`Events (${events.length} changed)`)}`);
    const seconds = elapsedNs === undefined || !sameBoot ? 0 : Number(elapsedNs) / 1e9;
    writeRows(
      out,
      events.map(({ place, name, a, b }) => [
        `  ${escapeText(name)}${ofSub(place)}`,
        `${optional(a)} -> ${optional(b)}${deltaText(a, b, seconds)}`,
      ]),
    );
  }
  if (queues.length === 0) return;
  out.line(`\n${style.heading(`Dispatch queues (${queues.length} changed)`)}  ${style.dim("tasks in them")}`);
  const shown = queues.slice(0, SHOWN_QUEUES);
  writeRows(
    out,
    shown.map((each) => [
      `  ${changedQueueTitle(each)}${ofSub(each.place)}`,
      `${countText(each.a ?? 0)} -> ${countText(each.b ?? 0)}`,
    ]),
  );
  if (queues.length > shown.length) out.line(style.dim(`  ... ${countText(queues.length)} in all`));
}

const optional = (count: bigint | undefined): string => (count === undefined ? "none" : countText(count));
const ofSub = (place: string): string => (place === "root" ? "" : ` of ${escapeText(place)}`);

function deltaText(a: bigint | undefined, b: bigint | undefined, seconds: number): string {
  const by = eventDelta(a, b, seconds);
  return by === "" ? "" : `  (${by})`;
}

/** Formats the growth of an event's counter, with its rate; "" if only one side has the counter. */
export function eventDelta(a: bigint | undefined, b: bigint | undefined, seconds: number): string {
  if (a === undefined || b === undefined) return "";
  const by = b - a;
  const rate = seconds === 0 ? "" : `, ${rateText(Number(by) / seconds)}/s`;
  return `${by > 0n ? "+" : ""}${by}${rate}`;
}

export function changedQueueTitle({ queue: { id, name, kind, cpu } }: ChangedQueue): string {
  if (kind === "user") return escapeText(name === undefined ? id : `${id} (${name})`);
  return escapeText(cpu === undefined ? kind : `${kind} CPU ${cpu}`);
}
