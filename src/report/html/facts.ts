/** Attributes with the keys of the JSON output, and their values. */
import { escapeText } from "../../text.ts";
import { type Json, JsonText } from "../json.ts";
import { countText } from "../units.ts";
import { type Html, html, NOTHING, type Part } from "./markup.ts";

type JsonObject = { readonly [key: string]: Json };

/** Ids of objects that are in the page. Only these are linked. */
export interface Anchors {
  readonly progs: ReadonlySet<number>;
  readonly maps: ReadonlySet<number>;
}

/** Limit on the items of one list. */
const MAX_ITEMS = 200;

/**
 * Formats `key value  key value`, without the keys in `skip` and without undefined values. `isPrintable`: strings are already
 * escaped.
 */
export function facts(
  of: JsonObject,
  anchors: Anchors,
  skip: readonly string[] = [],
  isPrintable = false,
): Html {
  const shown = Object.entries(of).filter(([key, value]) => value !== undefined && !skip.includes(key));
  if (shown.length === 0) return NOTHING;
  return html`<p class="facts">${shown.map(
    ([key, value]) =>
      html`<span>${escapeText(key)} <b>${isPrintable && typeof value === "string" ? value : partOf(key, value, anchors)}</b></span> `,
  )}</p>
`;
}

function partOf(key: string, value: Json, anchors: Anchors): Part {
  if (value === undefined) return "";
  if (value === null) return "none";
  if (value instanceof JsonText) return value.text;
  if (typeof value === "string") return value === "" ? '""' : escapeText(value);
  if (typeof value === "number" || typeof value === "bigint")
    return idOf(key, value, anchors) ?? String(value);
  if (typeof value === "boolean") return String(value);
  if (isList(value)) {
    if (value.length === 0) return "none";
    const shown = value.slice(0, MAX_ITEMS).map((item) => partOf(key, item, anchors));
    if (value.length > MAX_ITEMS) shown.push(`... ${countText(value.length)} in all`);
    return shown.map((item, index) => [index > 0 && ", ", item]);
  }
  const inner = Object.entries(value).filter(([, item]) => item !== undefined);
  return ["{ ", inner.map(([name, item]) => [`${escapeText(name)} `, partOf(name, item, anchors), " "]), "}"];
}

const isList = (value: Json): value is readonly Json[] => Array.isArray(value);

/** Links an id to its object, if the object is in the page. */
function idOf(key: string, value: number | bigint, anchors: Anchors): Part {
  const id = Number(value);
  if (/^(map_ids?|inner_map_id)$/.test(key)) return mapLink(id, anchors);
  if (/^prog_ids?$/.test(key)) return progLink(id, anchors);
  return undefined;
}

export function mapLink(id: number, { maps }: Anchors, name?: string): Part {
  const shown = name === undefined ? String(id) : `${id} ${name}`;
  return maps.has(id) ? html`<a href="#map-${id}">${shown}</a>` : shown;
}

export function progLink(id: number, { progs }: Anchors, name?: string): Part {
  const shown = name === undefined ? String(id) : `${id} ${name}`;
  return progs.has(id) ? html`<a href="#prog-${id}">${shown}</a>` : shown;
}
