/** The first sections of the page: findings, and the machine. */
import { escapeSentence, escapeText } from "../../text.ts";
import type { InspectedSched } from "../inspect-sched.ts";
import type { Inspection } from "../inspection.ts";
import { kernelJson } from "../inspection-json.ts";
import type { Finding } from "../sched-findings.ts";
import { findingJson } from "../sched-json.ts";
import { dateText } from "../text.ts";
import { countText, timeText } from "../units.ts";
import type { Section } from "./document.ts";
import { type Anchors, facts } from "./facts.ts";
import { type Html, html, type Part } from "./markup.ts";

/** Limit on warnings in the page. */
const MAX_WARNINGS = 200;

export function findingsSection(
  { warnings }: Inspection,
  scheds: readonly InspectedSched[],
  anchors: Anchors,
): Section {
  const found = scheds.flatMap(({ findings }) => findings);
  const content = html`${found.map((finding) => findingHtml(finding, anchors))}${warnings
    .slice(0, MAX_WARNINGS)
    .map(
      (warning) => html`<p class="warning">${escapeSentence(warning)}.</p>
`,
    )}${
    warnings.length > MAX_WARNINGS && html`<p class="dim">... ${countText(warnings.length)} in all</p>`
  }${found.length + warnings.length === 0 && html`<p class="dim">none</p>`}`;
  return { id: "findings", title: "Findings", about: findingsAbout(found.length, warnings.length), content };
}

function findingHtml(finding: Finding, anchors: Anchors): Html {
  const { summary, details } = finding;
  return html`<div class="finding"><p>${escapeText(summary)}.</p>${details.map(
    (each) => html`<p class="dim">${escapeText(each)}</p>`,
  )}${facts(findingJson(finding), anchors, ["summary", "details"])}</div>
`;
}

const findingsAbout = (findings: number, warnings: number): Part =>
  `${findings} about the scheduler, ${warnings} ${warnings === 1 ? "warning" : "warnings"}`;

export function kernelSection({ kernel }: Inspection, anchors: Anchors): Section {
  const { bootTimeUnixNs, uptimeNs } = kernel;
  const times: string[] = [];
  if (bootTimeUnixNs !== undefined) times.push(`started ${dateText(bootTimeUnixNs / 1_000_000_000n)}`);
  if (uptimeNs !== undefined) times.push(`up for ${timeText(Number(uptimeNs))}`);
  const version = kernel.version === "" ? undefined : kernel.version;
  const content = html`${facts({ ...kernelJson(kernel), version }, anchors)}`;
  return { id: "kernel", title: "Kernel", about: times.join(", "), content };
}
