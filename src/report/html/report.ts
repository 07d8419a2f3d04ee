/** `ktstr report`: the data of `inspect`, `sched` and `dmesg` as one HTML file. */
import type { KernelLog } from "../../kernel-log.ts";
import { escapeText } from "../../text.ts";
import type { InspectedSched } from "../inspect-sched.ts";
import type { Inspection } from "../inspection.ts";
import { dateText } from "../text.ts";
import { documentOf } from "./document.ts";
import type { Anchors } from "./facts.ts";
import { linksSection } from "./links.ts";
import { logSection } from "./log.ts";
import { findingsSection, kernelSection } from "./machine.ts";
import { mapsBySize, mapsSection } from "./maps.ts";
import { html } from "./markup.ts";
import { progsByCost, progsSection } from "./progs.ts";
import { schedSection } from "./sched.ts";

/** Limits on objects in a page. Omitted objects are counted. */
const MAX_PROGS = 4000;
const MAX_LINKS = 4000;
const MAX_MAPS = 4000;

export interface ReportInput {
  readonly inspection: Inspection;
  /** Complete `sched` pages, one per scheduler. */
  readonly scheds: readonly InspectedSched[];
  /** The log, or the reason why it could not be read. */
  readonly log: KernelLog | string;
  /** Description of the source. */
  readonly origin: string;
  readonly made: Made;
}

export interface Made {
  readonly unixSeconds: bigint;
  readonly version: string;
}

/** Returns the HTML file. Its size is limited, because its lists and contents are. */
export function reportPage({ inspection, scheds, log, origin, made }: ReportInput): string {
  const { kernel } = inspection;
  const progs = progsByCost(inspection).slice(0, MAX_PROGS);
  const maps = mapsBySize(inspection).slice(0, MAX_MAPS);
  const links = inspection.links.slice(0, MAX_LINKS);
  const anchors: Anchors = {
    progs: new Set(progs.map(({ id }) => id)),
    maps: new Set(maps.map(({ info }) => info.id)),
  };
  return documentOf(
    `BPF state of ${escapeText(kernel.release)} ${escapeText(kernel.machine)}`,
    [html`<span class="dim">${escapeText(origin)}; ${madeText(made)}</span>`],
    [
      findingsSection(inspection, scheds, anchors),
      kernelSection(inspection, anchors),
      schedSection(inspection, scheds, anchors),
      progsSection(inspection, progs, anchors),
      linksSection(inspection, links, anchors),
      mapsSection(inspection, maps, anchors),
      logSection(log),
    ],
  );
}

export const madeText = ({ unixSeconds, version }: Made): string =>
  `page made ${dateText(unixSeconds)} by ktstr ${version}`;
