/** Maps by size, each with its attributes, the programs that use it, and its contents. */
import { declaration } from "../../btf/declare.ts";
import { readU32 } from "../../btf/integer.ts";
import { escapeText, printable } from "../../text.ts";
import { MAP_TYPES } from "../../uapi/names.ts";
import { mapJson } from "../bpftool.ts";
import { ownerJson } from "../dump.ts";
import { arenaObjectText } from "../element-text.ts";
import type { Variable } from "../globals.ts";
import {
  hasFill,
  type InspectedMap,
  type Inspection,
  type SampleEntry,
  type SampleRecord,
} from "../inspection.ts";
import type { Json } from "../json.ts";
import { withFallback } from "../typed.ts";
import { countText, sizeText, totalSizeText } from "../units.ts";
import { idMeaning, typeText } from "../words.ts";
import type { Section } from "./document.ts";
import { type Anchors, facts, mapLink, progLink } from "./facts.ts";
import { type Html, html, NOTHING, type Part } from "./markup.ts";
import { bar, rest } from "./table.ts";
import { bytesHtml, valueHtml } from "./value.ts";

/** Limits on the variables of one section, and on the characters of all contents. Further maps have only attributes. */
const MAX_VARIABLES = 512;
const MAX_CONTENT_CHARACTERS = 16 * 2 ** 20;

export function mapsSection(
  { maps, progs, limit }: Inspection,
  shown: readonly InspectedMap[],
  anchors: Anchors,
): Section {
  const users = new Map<number, Part[]>();
  for (const prog of progs)
    for (const id of prog.mapIds) {
      const own = users.get(id) ?? [];
      own.push([own.length > 0 && ", ", progLink(prog.id, anchors, printable(prog.fullName))]);
      users.set(id, own);
    }
  let characters = 0;
  const items = shown.map((map) => {
    const content = characters < MAX_CONTENT_CHARACTERS ? contentHtml(map, anchors) : TOO_MUCH;
    characters += content.text.length;
    const used = users.get(map.info.id);
    return mapItem(map, [
      facts(mapJson(map.info), anchors, ["id", "type", "name"]),
      used !== undefined && html`<p>used by ${used}</p>`,
      content,
    ]);
  });
  const total = totalSizeText(maps.map(({ info }) => info.memlockBytes));
  const content = html`<div class="maps"><div class="row head"><span class="n">id</span><span>name</span><span>type</span><span>key, value, entries</span><span>fill</span><span class="n">entries</span><span class="n">memory</span></div>
${items}</div>${rest(maps.length, shown.length)}`;
  const about = `${maps.length}, ${total}, the largest first, up to ${limit} entries of each`;
  return { id: "maps", title: "Maps", about, content };
}

const TOO_MUCH = html`<p class="alarm">Contents omitted to limit the page's size: <code>ktstr map dump</code> prints them.</p>`;

/** Sorts maps by descending size. */
export function mapsBySize({ maps }: Inspection): InspectedMap[] {
  const size = ({ info }: InspectedMap): number => info.memlockBytes ?? 0;
  return [...maps].sort((a, b) => size(b) - size(a) || a.info.id - b.info.id);
}

function mapItem({ info, sample }: InspectedMap, body: Part): Html {
  const name =
    info.name.length === 0
      ? html`<span class="dim">(no name)</span>`
      : html`<span>${printable(info.name)}</span>`;
  const entries = info.maxEntries === 0 ? "" : ` x ${countText(info.maxEntries)}`;
  const canFill = hasFill(info) && sample.problem === "";
  const fill = canFill && sample.countIsWhole && info.maxEntries > 0 && bar(sample.count / info.maxEntries);
  const count = canFill && `${sample.countIsWhole ? "" : "over "}${countText(sample.count)}`;
  return html`<details class="item"><summary><span class="row"><span class="n">${info.id}</span>${name}<span>${typeText(MAP_TYPES, info.type)}</span><span>${info.keySize} B, ${info.valueSize} B${entries}</span><span>${fill}</span><span class="n">${count}</span><span class="n">${info.memlockBytes !== undefined && sizeText(info.memlockBytes)}</span></span></summary><div class="body" id="map-${info.id}">${body}</div></details>
`;
}

function contentHtml(map: InspectedMap, anchors: Anchors): Html {
  const { sample, variables } = map;
  const of = sample.entries.length + sample.records.length;
  const count = `${sample.countIsWhole ? "" : "at least "}${countText(sample.count)} in all`;
  return html`${variables !== undefined ? variablesHtml(map, variables) : sampleHtml(map, anchors)}${
    sample.problem !== "" && html`<p class="alarm">incomplete: ${sample.problem}</p>`
  }<p class="dim">${variables === undefined && sample.count > of ? `${countText(of)} shown, ${count}` : count}</p>`;
}

/** Global variables as a table. */
function variablesHtml({ style }: InspectedMap, variables: readonly Variable[]): Html {
  const rows = variables.slice(0, MAX_VARIABLES).map(
    ({
      name,
      type,
      offset,
      bytes,
    }) => html`<tr><td class="n">${offset}</td><td>${escapeText(name)}</td><td class="dim">${escapeText(withFallback("?", () => declaration(type.btf, type.id, "")))}</td><td>${valueHtml(type, bytes, style.text)}</td></tr>
`,
  );
  return html`<div class="scroll"><table><tr><th class="n">offset</th><th>name</th><th>type</th><th>value</th></tr>
${rows}</table></div>${rest(variables.length, rows.length)}`;
}

/** Returns the variables of a scheduler that may change, without those that come from headers. */
export function changingVariables({ info, variables = [] }: InspectedMap): readonly Variable[] {
  return info.frozen === true ? [] : variables.filter(({ name }) => !/(^|\.)__/.test(name));
}

export function variablesTable(map: InspectedMap): Html {
  return variablesHtml(map, changingVariables(map));
}

function sampleHtml(map: InspectedMap, anchors: Anchors): Html {
  const { sample } = map;
  if (sample.entries.length + sample.records.length === 0) return NOTHING;
  const rows = [
    ...sample.entries.map((entry) => entryHtml(map, entry, anchors)),
    ...sample.records.map((record) => recordHtml(map, record, anchors)),
  ];
  return html`<div class="scroll"><table>${rows}</table></div>`;
}

function entryHtml(
  { info, style }: InspectedMap,
  { key, values, cpus, missing }: SampleEntry,
  anchors: Anchors,
): Html {
  const [value] = values;
  const shown =
    missing !== "" || value === undefined
      ? html`<span class="alarm">${missing}</span>`
      : values.length === 1
        ? [valueHtml(style.types?.value, value, style.text), meaningHtml(info, value, anchors)]
        : values.map(
            (each, copy) =>
              html`<div>CPU ${cpus?.[copy] ?? copy} ${valueHtml(style.types?.value, each, style.text)}</div>`,
          );
  return html`<tr><td>${valueHtml(style.types?.key, key)}</td><td>${shown}</td></tr>
`;
}

/** Describes a value that is the id of a map or a program. */
function meaningHtml(info: InspectedMap["info"], value: Uint8Array, anchors: Anchors): Part {
  const meaning = idMeaning(info);
  if (meaning === undefined || value.length < 4) return undefined;
  const id = readU32(value, 0);
  return meaning === "prog_id" ? [" prog ", progLink(id, anchors)] : [" map ", mapLink(id, anchors)];
}

function recordHtml({ style }: InspectedMap, record: SampleRecord, anchors: Anchors): Html {
  const { owner, note, value, objects = [] } = record;
  const head = [
    owner !== undefined && facts(ownerJson(owner) as { [key: string]: Json }, anchors, [], true),
    note !== undefined && html`<code>${escapeText(note)}</code>`,
  ];
  const known = objects.map((object) => arenaObjectText(object, style.text)).join("\n");
  return html`<tr><td>${head}</td><td>${known !== "" && html`<pre>${known}</pre>`}${record.objects === undefined ? valueHtml(style.types?.value, value, style.text) : bytesHtml(value)}</td></tr>
`;
}
