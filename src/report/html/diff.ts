/** Changes between two snapshots as a page. */
import { escapeText } from "../../text.ts";
import type { Diff, ObjectChanges } from "../diff.ts";
import { changedQueueTitle, eventDelta } from "../diff-sched-text.ts";
import {
  changedMap,
  changeParts,
  costBetween,
  costOfEach,
  isUnchanged,
  schedulerSentence,
  sideSentences,
} from "../diff-text.ts";
import type { SnapshotLink, SnapshotMap, SnapshotProg } from "../snapshot.ts";
import { countText, timeText } from "../units.ts";
import { documentOf, type Section } from "./document.ts";
import { html, type Part } from "./markup.ts";
import { type Made, madeText } from "./report.ts";
import { bar, percentText, tableOf } from "./table.ts";

/** Limits on the rows of a table, and on the changed parts of a variable. */
const MAX_ROWS = 2000;
const MAX_CHANGES = 64;

/** `names`: sources of A and B, as given by the user. */
export function diffPage(diff: Diff, names: readonly [string, string], made: Made): string {
  const { release, machine } = diff.b.kernel;
  const [a, b] = sideSentences(diff);
  const changedLinks = diff.changedLinks.map(([before, after]) => [
    ...linkCells(after),
    `prog ${before.progId} -> ${after.progId}`,
  ]);
  const changedMaps = diff.changedMaps.map(([before, after]) => [
    ...namedCells(after),
    changedMap(before, after).join(),
  ]);
  return documentOf(
    `What changed on ${escapeText(release)} ${escapeText(machine)}`,
    [
      html`A: ${escapeText(names[0])} <span class="dim">${a}</span>`,
      html`B: ${escapeText(names[1])} <span class="dim">${b}</span>`,
      html`<span class="dim">${madeText(made)}</span>`,
    ],
    [
      notesSection(diff),
      schedSection(diff),
      costsSection(diff),
      globalsSection(diff),
      objectsSection("programs", "Programs", diff.progs, namedCells, []),
      objectsSection("links", "Links", diff.links, linkCells, changedLinks),
      objectsSection("maps", "Maps", diff.maps, namedCells, changedMaps),
    ],
  );
}

function notesSection(diff: Diff): Section {
  const { notes, warnings } = diff;
  const lines = [
    ...notes.map((note) => html`<p>${escapeText(note)}</p>`),
    ...warnings.onlyB.map((each) => html`<p class="warning">only in B: ${escapeText(each)}</p>`),
    ...warnings.onlyA.map((each) => html`<p class="warning">only in A: ${escapeText(each)}</p>`),
    ...(isUnchanged(diff) ? [html`<p>Nothing changed.</p>`] : []),
  ];
  return {
    id: "notes",
    title: "Notes",
    about: lines.length === 0 && "none",
    content: html`${lines.slice(0, MAX_ROWS)}`,
  };
}

function schedSection({ scheduler, sched, sameBoot, elapsedNs }: Diff): Section {
  const seconds = elapsedNs === undefined || !sameBoot ? 0 : Number(elapsedNs) / 1e9;
  const ofSub = (place: string): string => (place === "root" ? "" : escapeText(place));
  const count = (value: bigint | number | undefined): string =>
    value === undefined ? "none" : countText(value);
  const events = sched.events.map(({ place, name, a, b }): Part[] => [
    escapeText(name),
    ofSub(place),
    count(a),
    count(b),
    eventDelta(a, b, seconds),
  ]);
  const queues = sched.queues.map((each): Part[] => [
    changedQueueTitle(each),
    ofSub(each.place),
    count(each.a ?? 0),
    count(each.b ?? 0),
  ]);
  const sides = [{ title: "" }, { title: "A", isNumber: true }, { title: "B", isNumber: true }];
  return {
    id: "scheduler",
    title: "Scheduler",
    about: schedulerSentence(scheduler),
    content: html`${
      events.length > 0 &&
      html`<h3>Events <small>${events.length} changed</small></h3>${tableOf([{ title: "event" }, ...sides, { title: "" }], events, MAX_ROWS)}`
    }${
      queues.length > 0 &&
      html`<h3>Dispatch queues <small>${queues.length} changed, tasks in them</small></h3>${tableOf([{ title: "queue" }, ...sides], queues, MAX_ROWS)}`
    }`,
  };
}

function costsSection({ costs, sameBoot, elapsedNs }: Diff): Section {
  const total = costs.reduce((sum, { between }) => sum + (between?.runTimeNs ?? 0n), 0n);
  const time = elapsedNs === undefined ? "" : ` in ${timeText(Number(elapsedNs))}`;
  const rows = costs.map((cost): Part[] => {
    const { prog, a, b, between } = cost;
    const share = sameBoot ? (between?.share ?? 0) : (b?.share ?? a?.share ?? 0);
    const words = sameBoot
      ? costBetween(cost)
          .trim()
          .replace(/^[\d.]+% */, "")
      : costOfEach(cost);
    return [prog.id, escapeText(prog.name), escapeText(prog.type), bar(share), percentText(share), words];
  });
  const columns = [
    { title: "id", isNumber: true },
    { title: "program" },
    { title: "type" },
    { title: "share of their time" },
    { title: "", isNumber: true },
    { title: sameBoot ? "between A and B" : "A -> B" },
  ];
  const about = sameBoot ? `${timeText(Number(total))}${time}` : "totals since each was loaded";
  return {
    id: "costs",
    title: "Costs",
    about: costs.length === 0 ? "none ran" : `${costs.length} programs, ${about}`,
    content: costs.length === 0 ? html`` : tableOf(columns, rows, MAX_ROWS),
  };
}

type Cells = readonly Part[];

function objectsSection<T extends { readonly id: number }>(
  id: string,
  title: string,
  { gone, appeared, replaced }: ObjectChanges<T>,
  cells: (object: T) => Cells,
  changed: readonly Cells[],
): Section {
  const instead = (old: number | undefined): string => (old === undefined ? "new" : `new, replaces ${old}`);
  const rows = [
    ...appeared.map((object) => [...cells(object), instead(replaced.get(object.id))]),
    ...gone.map((object) => [...cells(object), "gone"]),
    ...changed,
  ];
  const columns = [{ title: "id", isNumber: true }, { title: "" }, { title: "type" }, { title: "" }];
  return {
    id,
    title,
    about: `${appeared.length} new, ${gone.length} gone, ${changed.length} changed`,
    content: rows.length === 0 ? html`` : tableOf(columns, rows, MAX_ROWS),
  };
}

const namedCells = ({ id, name, type }: SnapshotProg | SnapshotMap): Cells => [
  id,
  escapeText(name),
  escapeText(type),
];

const linkCells = ({ id, type, progId, mapId }: SnapshotLink): Cells => [
  id,
  progId === 0 && mapId !== undefined ? `map ${mapId}` : `prog ${progId}`,
  escapeText(type),
];

function globalsSection({ globals, elapsedNs }: Diff): Section {
  let left = MAX_ROWS;
  const parts = globals.map(({ a, b, variables }) => {
    const rows = variables.flatMap((variable): Part[][] => {
      const shown = variable.changes.slice(0, Math.min(MAX_CHANGES, left));
      left -= shown.length;
      const lines = shown.map((change): Part[] => {
        const { path, before, after, by } = changeParts(variable, change, elapsedNs);
        return [path, escapeText(variable.type), before, after, by];
      });
      const more = variable.changes.length - shown.length;
      return more === 0 ? lines : [...lines, [`... ${countText(more)} more in ${escapeText(variable.name)}`]];
    });
    const columns = [
      { title: "variable" },
      { title: "type" },
      { title: "A", isNumber: true },
      { title: "B", isNumber: true },
      { title: "" },
    ];
    const ids = a.id === b.id ? String(b.id) : `${a.id} -> ${b.id}`;
    return html`<h3>${escapeText(b.name)} <small>map ${ids}</small></h3>
${tableOf(columns, rows, MAX_ROWS)}`;
  });
  const count = globals.reduce((sum, { variables }) => sum + variables.length, 0);
  return {
    id: "globals",
    title: "Global variables",
    about: `${count} changed`,
    content: html`${parts}`,
  };
}
