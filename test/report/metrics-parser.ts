/** Parses metrics with an independent implementation: Debian's python3-prometheus-client, whose OpenMetrics parser is strict. */
import { spawnSync } from "node:child_process";

/** Debian's python3; another python3 in PATH does not have its modules. */
const PYTHON = "/usr/bin/python3";

export interface ParsedFamily {
  readonly name: string;
  readonly type: string;
  readonly samples: readonly (readonly [string, { readonly [label: string]: string }, number])[];
}

const PROGRAM = `
import json, sys
if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse
families = [dict(name=f.name, type=f.type, samples=[[s.name, s.labels, s.value] for s in f.samples]) for f in parse(sys.stdin.read())]
print(json.dumps(families))
`;

/** Returns the reason why the parser cannot be used, or "". */
export function parserSkipReason(): string {
  const { status } = spawnSync(PYTHON, ["-c", "import prometheus_client.openmetrics.parser"]);
  return status === 0 ? "" : ": skipped, python3-prometheus-client is not installed";
}

/** Throws the parser's message if the text is not in its format. */
export function parseMetrics(text: string, format: "prometheus" | "openmetrics"): ParsedFamily[] {
  const { status, stdout, stderr } = spawnSync(PYTHON, ["-c", PROGRAM, format], {
    input: text,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as ParsedFamily[];
}
