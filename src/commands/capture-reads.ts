/** Runs every query that a command can make and discards the output. `capture` records the pages that these queries read. */
import { closeSync, openSync } from "node:fs";
import { devNull } from "node:os";
import { KtstrError } from "../errors.ts";
import type { GuestState } from "../guest/guest.ts";
import { dumpText } from "../report/dump-text.ts";
import { buildInspection } from "../report/inspection.ts";
import { writeInspection } from "../report/inspection-text.ts";
import { linkPlaces } from "../report/link-place.ts";
import { Output } from "../report/output.ts";
import { structOpsDump } from "../report/struct-ops.ts";
import { styleFor } from "../report/style.ts";
import { linkText } from "../report/text.ts";
import { MapType } from "../uapi/names.ts";
import { PLAIN } from "./terminal.ts";

/** Reads everything that a command can print, following pointers in values to depth `follow`. Returns the number of elements. */
export function readForCapture(state: GuestState, follow: number): number {
  const fd = openSync(devNull, "w");
  try {
    const out = new Output(fd);
    // Text output reads more than JSON does: symbols of addresses, and each global variable.
    writeInspection(out, buildInspection(state, 1), PLAIN, 120);
    state.explain();
    const place = linkPlaces(state);
    for (const link of state.links()) out.line(linkText(link, () => undefined, place(link)));
    ignoreErrors(() => state.perfAttachments());
    ignoreErrors(() => state.networks());
    ignoreErrors(() => state.features());
    ignoreErrors(() => state.tokenMounts());
    for (const kind of ["map", "program", "link"] as const) ignoreErrors(() => state.pinnedPaths(kind));
    for (const isEffective of [false, true])
      ignoreErrors(() => state.cgroups({ path: undefined, isTree: true, isEffective }));
    for (const map of state.maps())
      if (map.type === MapType.struct_ops) ignoreErrors(() => structOpsDump(state, map, false));
    // An address outside every function makes the lookup read the lists of modules and programs.
    state.symbolAt(2n ** 64n - 1n);
    for (const { id } of state.btfs()) state.btf(id);
    state.holders();
    const codes = state.progs().map((prog) => state.progCode(prog));
    for (const prog of state.progs()) state.machineCode(prog);
    state.callTargets(codes.filter((code) => code.ok).map((code) => code.value));
    ignoreErrors(() => state.log());
    ignoreErrors(() => state.scheduler());
    ignoreErrors(() => state.schedulerDumps());
    ignoreErrors(() => {
      for (const _ of state.tasks());
    });
    ignoreErrors(() => {
      for (const _ of state.stacks());
    });
    let elements = 0;
    for (const map of state.maps()) {
      const style = styleFor(state, map, { follow, declarations: false });
      elements += dumpText(out, map, state.contents(map), style).count;
    }
    out.flush();
    return elements;
  } finally {
    closeSync(fd);
  }
}

/** Runs a query and ignores its `KtstrError`: the kernel may be older, or a capture may not hold the pages for it. */
function ignoreErrors(query: () => void): void {
  try {
    query();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
  }
}
