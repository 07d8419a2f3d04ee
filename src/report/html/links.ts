/** Links with their programs and places. */
import { printable } from "../../text.ts";
import { LINK_TYPES } from "../../uapi/names.ts";
import { linkJson } from "../bpftool.ts";
import type { InspectedLink, Inspection } from "../inspection.ts";
import type { Json } from "../json.ts";
import { typeText } from "../words.ts";
import type { Section } from "./document.ts";
import { type Anchors, facts, mapLink, progLink } from "./facts.ts";
import { html, type Part } from "./markup.ts";
import { rest } from "./table.ts";

export function linksSection(
  { links, progs, maps }: Inspection,
  shown: readonly InspectedLink[],
  anchors: Anchors,
): Section {
  const types = new Map(progs.map((prog) => [prog.id, prog.type]));
  const progNames = new Map(progs.map((prog) => [prog.id, printable(prog.fullName)]));
  const mapNames = new Map(maps.map(({ info }) => [info.id, printable(info.name)]));
  const target = ({ progId, details }: InspectedLink): Part => {
    if (progId !== 0) return ["prog ", progLink(progId, anchors, progNames.get(progId))];
    const map = Number(details["map_id"] ?? 0);
    return map === 0 ? "" : ["map ", mapLink(map, anchors, mapNames.get(map))];
  };
  const items = shown.map(
    (
      link,
    ) => html`<details class="item"><summary><span class="row"><span class="n">${link.id}</span><span>${typeText(LINK_TYPES, link.type)}</span><span>${target(link)}</span><span class="wrap">${link.place}</span></span></summary><div class="body" id="link-${link.id}">${facts(linkJson(link, (id) => types.get(id)) as { [key: string]: Json }, anchors, ["id", "type"])}</div></details>
`,
  );
  const content = html`<div class="links"><div class="row head"><span class="n">id</span><span>type</span><span>runs</span><span>attached</span></div>
${items}</div>${rest(links.length, shown.length)}`;
  return { id: "links", title: "Links", about: `${links.length}`, content };
}
