/** Programs by cost, each with its attributes, maps and attachments. */
import { nsPerCall } from "../../derive.ts";
import type { ProgInfo, ProgStats } from "../../state.ts";
import { printable } from "../../text.ts";
import { LINK_TYPES, PROG_TYPES } from "../../uapi/names.ts";
import { progJson } from "../bpftool.ts";
import type { InspectedLink, Inspection } from "../inspection.ts";
import { dateText } from "../text.ts";
import { countText, timeText } from "../units.ts";
import { typeText } from "../words.ts";
import type { Section } from "./document.ts";
import { type Anchors, facts, mapLink } from "./facts.ts";
import { type Html, html, type Part } from "./markup.ts";
import { bar, percentText, rest } from "./table.ts";

export function progsSection(inspection: Inspection, shown: readonly ProgInfo[], anchors: Anchors): Section {
  const { progs, kernel, interval } = inspection;
  const about =
    interval !== undefined
      ? `${progs.length}, costs of ${interval.seconds.toFixed(2)} s`
      : kernel.statsEnabled === false
        ? `${progs.length}, statistics are off, costs were counted before`
        : `${progs.length}, by cost since each was loaded`;
  const total = progs.reduce((sum, prog) => sum + costOf(inspection, prog), 0);
  const names = new Map(inspection.maps.map(({ info }) => [info.id, printable(info.name)]));
  const links = Map.groupBy(inspection.links, ({ progId }) => progId);
  const items = shown.map((prog) => {
    const own = links.get(prog.id) ?? [];
    return progItem(prog, statsOf(inspection, prog), total, [
      facts({ ...progJson(prog, kernel, interval) }, anchors, ["id", "type", "name"]),
      loadedHtml(inspection, prog),
      own.map(attachedHtml),
      placesHtml(inspection, prog, anchors),
      prog.mapIds.length > 0 &&
        html`<p>maps ${prog.mapIds.map((id, index) => [index > 0 && ", ", mapLink(id, anchors, names.get(id))])}</p>`,
    ]);
  });
  const content = html`<div class="progs"><div class="row head"><span class="n">id</span><span>name</span><span>type</span><span>share of time</span><span></span><span class="n">calls</span><span class="n">each</span><span class="n">misses</span></div>
${items}</div>${rest(progs.length, shown.length)}`;
  return { id: "programs", title: "Programs", about, content };
}

/** Sorts programs by descending cost. */
export function progsByCost(inspection: Inspection): ProgInfo[] {
  return [...inspection.progs].sort((a, b) => costOf(inspection, b) - costOf(inspection, a) || a.id - b.id);
}

function statsOf({ interval }: Inspection, prog: ProgInfo): ProgStats | undefined {
  return prog.stats.ok ? (interval?.of(prog) ?? prog.stats.value) : undefined;
}

const costOf = (inspection: Inspection, prog: ProgInfo): number =>
  Number(statsOf(inspection, prog)?.runTimeNs ?? 0n);

function progItem(prog: ProgInfo, stats: ProgStats | undefined, total: number, body: Part): Html {
  const ran = stats !== undefined && (stats.count > 0n || stats.misses > 0n);
  const share = ran && total > 0 ? Number(stats.runTimeNs) / total : 0;
  const costs = ran
    ? html`<span>${bar(share)}</span><span class="n">${percentText(share)}</span><span class="n">${countText(stats.count)}</span><span class="n">${timeText(nsPerCall(stats))}</span><span class="n">${stats.misses > 0n && countText(stats.misses)}</span>`
    : html`<span></span><span></span><span></span><span></span><span></span>`;
  return html`<details class="item"><summary><span class="row"><span class="n">${prog.id}</span><span>${printable(prog.fullName)}</span><span>${typeText(PROG_TYPES, prog.type)}</span>${costs}</span></summary><div class="body" id="prog-${prog.id}">${body}</div></details>
`;
}

function loadedHtml({ kernel }: Inspection, prog: ProgInfo): Part {
  if (prog.loadTimeNs === 0n || kernel.bootTimeUnixNs === undefined) return undefined;
  const seconds = (kernel.bootTimeUnixNs + prog.loadTimeNs) / 1_000_000_000n;
  return html`<p>loaded ${dateText(seconds)}, ${timeText(Number(prog.loadTimeNs))} after boot</p>`;
}

function attachedHtml({ id, type, place }: InspectedLink): Html {
  return html`<p>run by <a href="#link-${id}">link ${id}</a>, ${typeText(LINK_TYPES, type)} <span class="dim">${place}</span></p>`;
}

/** Limit on the places of one program, because a prog array may have it in each element. */
const MAX_PLACES = 50;

/** Attachments without a link. */
function placesHtml({ places }: Inspection, { id }: ProgInfo, anchors: Anchors): Part {
  const unlinked = (places?.get(id) ?? []).filter(({ json }) => json["by"] !== "link");
  const shown = unlinked.slice(0, MAX_PLACES);
  return [
    shown.map(({ json: { by, ...where } }) => facts({ "run by": by, ...where }, anchors)),
    rest(unlinked.length, shown.length),
  ];
}
