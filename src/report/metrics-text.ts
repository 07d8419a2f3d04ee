/**
 * Metrics as text in Prometheus's format, version 0.0.4, and in OpenMetrics 1.0. OpenMetrics adds `_total` to the samples
 * of a counter and not to its name, and ends the text with `# EOF`.
 */
import type { Family, Sample } from "./metrics.ts";

export type MetricsFormat = "prometheus" | "openmetrics";

export const CONTENT_TYPES: Readonly<Record<MetricsFormat, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

export function metricsText(families: readonly Family[], format: MetricsFormat): string {
  const isOpen = format === "openmetrics";
  const lines: string[] = [];
  for (const { name, kind, help, samples } of families) {
    if (samples.length === 0) continue;
    const sampleName = kind === "counter" ? `${name}_total` : name;
    const familyName = isOpen ? name : sampleName;
    lines.push(`# HELP ${familyName} ${help}`, `# TYPE ${familyName} ${kind}`);
    for (const sample of samples) lines.push(`${sampleName}${labelsText(sample)} ${sample.value}`);
  }
  if (isOpen) lines.push("# EOF");
  return `${lines.join("\n")}\n`;
}

function labelsText({ labels }: Sample): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${labelText(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

/** Escapes a label's value, in the same way for both formats. */
const labelText = (value: string): string =>
  value.replace(/[\\"\n]/g, (character) => (character === "\n" ? "\\n" : `\\${character}`));

/** Selects the format for a client's Accept header: OpenMetrics if the header names it with a nonzero quality. */
export function formatFor(accept: string | null): MetricsFormat {
  const wants = (accept ?? "").split(",").some((range) => {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim().toLowerCase());
    return type === "application/openmetrics-text" && !parameters.some((part) => /^q=0(\.0*)?$/.test(part));
  });
  return wants ? "openmetrics" : "prometheus";
}
