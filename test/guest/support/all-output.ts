/** Writes all output of the commands for a frozen machine to a file. */
import { closeSync, openSync, readFileSync } from "node:fs";
import { rawText } from "../../../src/btf/raw.ts";
import { PLAIN } from "../../../src/commands/terminal.ts";
import { KtstrError } from "../../../src/errors.ts";
import { openGuest } from "../../../src/guest/guest.ts";
import { btfJson, linkJson, mapJson, progJson } from "../../../src/report/bpftool.ts";
import { cgroupJson } from "../../../src/report/cgroup.ts";
import { dumpJson } from "../../../src/report/dump.ts";
import { dumpText } from "../../../src/report/dump-text.ts";
import { featuresJson, featuresText } from "../../../src/report/feature.ts";
import { buildInspection } from "../../../src/report/inspection.ts";
import { inspectionJson } from "../../../src/report/inspection-json.ts";
import { writeInspection } from "../../../src/report/inspection-text.ts";
import { type Json, stringify } from "../../../src/report/json.ts";
import { linkPlaces } from "../../../src/report/link-place.ts";
import { netfilterLinks, networkJson, networkText } from "../../../src/report/net.ts";
import { Output } from "../../../src/report/output.ts";
import { perfJson } from "../../../src/report/perf.ts";
import { progPlaces, progPlacesText } from "../../../src/report/prog-places.ts";
import { structOpsDump } from "../../../src/report/struct-ops.ts";
import { styleFor } from "../../../src/report/style.ts";
import { btfText, linkText, mapText, progText } from "../../../src/report/text.ts";
import { tokenJson, tokenText } from "../../../src/report/token.ts";
import { utf8 } from "../../../src/text.ts";
import { MapType } from "../../../src/uapi/names.ts";

/** `limit`: the option of `inspect`. `follow`: maximal depth of pointers in dumps. Warnings are printed last. */
export function allOutput(memory: string, into: string, limit: number, follow: number): Buffer {
  using guest = openGuest({ memory });
  const fd = openSync(into, "w");
  const out = new Output(fd);
  const inspection = buildInspection(guest, limit);
  writeInspection(out, inspection, PLAIN, 120);
  out.line(stringify(inspectionJson(inspection), " "));
  const print = (json: Json, text: string): void => void out.line(stringify(json, "")).line(text);
  const [progs, maps, kernel] = [guest.progs(), guest.maps(), guest.kernel()];
  for (const prog of progs) print(progJson(prog, kernel), progText(prog, kernel));
  const typeOf = (id: number): number | undefined => progs.find((prog) => prog.id === id)?.type;
  const place = linkPlaces(guest);
  for (const link of guest.links()) print(linkJson(link, typeOf), linkText(link, typeOf, place(link)));
  for (const btf of guest.btfs()) {
    print(btfJson(btf, progs, maps), btfText(btf, progs, maps));
    const types = guest.btf(btf.id);
    if (types.ok) for (const piece of rawText(types.value)) out.text(piece);
  }
  for (const map of maps) {
    print(mapJson(map), mapText(map));
    for (const steps of new Set([0, follow])) {
      const style = styleFor(guest, map, { follow: steps, declarations: true });
      out.line(stringify({ ...dumpJson(out, map, guest.contents(map), style) }, ""));
      out.line(stringify({ ...dumpText(out, map, guest.contents(map), style) }, ""));
    }
  }
  attempt(out, () => {
    for (const isEffective of [false, true])
      for (const cgroup of guest.cgroups({ path: undefined, isTree: true, isEffective }))
        out.line(stringify(cgroupJson(guest, cgroup)));
  });
  attempt(out, () => out.line(stringify(guest.perfAttachments().map(perfJson))));
  attempt(out, () => {
    const netfilter = netfilterLinks(guest.links());
    for (const network of guest.networks())
      print(networkJson(guest, network, netfilter), networkText(guest, network, netfilter));
  });
  attempt(out, () => {
    const features = guest.features();
    print(featuresJson(features), featuresText(features));
    for (const sentence of features.problems) out.line(sentence);
  });
  attempt(out, () => {
    for (const mount of guest.tokenMounts()) print(tokenJson(mount), tokenText(mount));
  });
  for (const kind of ["map", "program", "link"] as const)
    attempt(out, () => {
      for (const [id, paths] of guest.pinnedPaths(kind))
        out.line(`${kind} ${id} ${paths.map(utf8).join(" ")}`);
    });
  for (const map of maps.filter(({ type }) => type === MapType.struct_ops))
    attempt(out, () => out.line(stringify(structOpsDump(guest, map, false))));
  const places = progPlaces(guest);
  for (const prog of progs) out.line(progPlacesText(guest, prog, places));
  for (const warning of guest.warnings) out.line(warning);
  out.flush();
  closeSync(fd);
  return readFileSync(into);
}

/** If a capture was made before a query existed, the output is the query's error. */
function attempt(out: Output, print: () => unknown): void {
  try {
    print();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    out.line(error.message);
  }
}
