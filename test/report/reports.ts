/** Reports of `inspect --json` made by hand, for states that no kernel produces on demand. */
import { type Json, stringify } from "../../src/report/json.ts";
import { parseJson } from "../../src/report/parse-json.ts";
import { readSnapshot, type Snapshot } from "../../src/report/snapshot.ts";

type Parts = { readonly [key: string]: Json };

export const prog = (id: number, name: string, more: Parts = {}): Parts => ({
  id,
  type: "struct_ops",
  name,
  tag: "0123456789abcdef",
  gpl_compatible: true,
  bytes_xlated: 64,
  jited: true,
  load_time_ns: id * 1000,
  ...more,
});

export const ran = (id: number, name: string, calls: Json, ns: Json, more: Parts = {}): Parts =>
  prog(id, name, { run_cnt: calls, run_time_ns: ns, ...more });

export const map = (id: number, name: string, more: Parts = {}): Parts => ({
  id,
  type: "hash",
  name,
  flags: 0,
  bytes_key: 4,
  bytes_value: 8,
  max_entries: 100,
  frozen: 0,
  entries: [],
  count: 0,
  count_is_whole: true,
  ...more,
});

export const section = (id: number, name: string, variables: Parts): Parts =>
  map(id, name, {
    type: "array",
    max_entries: 1,
    count: 1,
    variables: Object.entries(variables).map(([variable, value], index) => ({
      name: variable,
      type: "u64",
      offset: index * 8,
      value,
    })),
  });

export const scheduler = (ops: string, progIds: readonly number[], state = "enabled"): Parts => ({
  ops,
  object: `scx_${ops}`,
  state,
  map_ids: [],
  prog_ids: progIds,
});

/** `uptime` in seconds; undefined for a report without a time. */
export function report(uptime: number | undefined, more: Parts = {}, kernel: Parts = {}): Parts {
  return {
    schema: "ktstr-inspect",
    schema_version: 1,
    kernel: {
      release: "7.2.0",
      version: "#1 SMP",
      machine: "x86_64",
      possible_cpus: 2,
      online_cpus: 2,
      page_size: 4096,
      bpf_stats_enabled: true,
      boot_time_unix_ns: 1_790_000_000_000_000_000n,
      ...(uptime !== undefined && { uptime_ns: uptime * 1e9 }),
      ...kernel,
    },
    scheduler: null,
    programs: [],
    links: [],
    content_limit: 8,
    maps: [],
    warnings: [],
    ...more,
  };
}

/** Returns the report as parsed from a saved file. */
export const snapshot = (parts: Json): Snapshot =>
  readSnapshot(parseJson(stringify(parts), "report.json"), "report.json");
