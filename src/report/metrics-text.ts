/**
 * Metrics as text: Prometheus's own format, version 0.0.4, and OpenMetrics 1.0 (its specification: `_total` belongs to a
 * counter's samples and not to its name, and the text ends with `# EOF`).
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

/** The same in both formats. */
const labelText = (value: string): string =>
  value.replace(/[\\"\n]/g, (character) => (character === "\n" ? "\\n" : `\\${character}`));

/** What a client asks for: OpenMetrics where it names it and does not refuse it. */
export function formatFor(accept: string | null): MetricsFormat {
  const wants = (accept ?? "").split(",").some((range) => {
    const [type = "", ...parameters] = range.split(";").map((part) => part.trim().toLowerCase());
    return type === "application/openmetrics-text" && !parameters.some((part) => /^q=0(\.0*)?$/.test(part));
  });
  return wants ? "openmetrics" : "prometheus";
}
