/** `inspect --json`: ktstr's own schema, versioned. Objects have bpftool's keys. */

import { declaration } from "../btf/declare.ts";
import type { ContentRecord, KernelInfo } from "../state.ts";
import { type JsonObject, linkJson, mapJson, progJson } from "./bpftool.ts";
import { ownerJson } from "./dump.ts";
import type { InspectedMap, Inspection } from "./inspection.ts";
import type { Json } from "./json.ts";
import { schedSummaryJson } from "./sched-json.ts";
import type { MapTypes } from "./typed.ts";
import { plain } from "./typed-json.ts";

/** Incremented if a member is removed or changes its meaning, not if members are added. */
const SCHEMA_VERSION = 1;

/** Members of a kernel, with the keys of the schema. */
export const kernelJson = (kernel: KernelInfo): JsonObject => ({
  release: kernel.release,
  version: kernel.version,
  machine: kernel.machine,
  possible_cpus: kernel.possibleCpus,
  online_cpus: kernel.onlineCpus,
  page_size: kernel.pageSize,
  bpf_stats_enabled: kernel.statsEnabled,
  boot_time_unix_ns: kernel.bootTimeUnixNs,
  uptime_ns: kernel.uptimeNs,
});

export function inspectionJson(inspection: Inspection): Json {
  const { kernel, scheduler, sched, progs, interval, maps, links, limit, warnings, places } = inspection;
  const types = new Map(progs.map((prog) => [prog.id, prog.type]));
  return {
    schema: "ktstr-inspect",
    schema_version: SCHEMA_VERSION,
    kernel: kernelJson(kernel),
    scheduler:
      scheduler === undefined
        ? null
        : {
            ops: scheduler.opsName,
            object: scheduler.objectPrefix,
            state: scheduler.state,
            map_ids: scheduler.mapIds,
            prog_ids: scheduler.progIds,
          },
    sched:
      sched.length === 0 ? undefined : sched.map(({ view, findings }) => schedSummaryJson(view, findings)),
    programs: progs.map((prog) => ({
      ...(progJson(prog, kernel, interval) as { readonly [key: string]: Json }),
      attached: places === undefined ? undefined : (places.get(prog.id) ?? []).map(({ json }) => json),
    })),
    links: links.map((link) => linkJson(link, (id) => types.get(id))),
    content_limit: limit,
    maps: maps.map(inspectedMapJson),
    warnings,
  };
}

function inspectedMapJson({ info, sample, style, variables }: InspectedMap): Json {
  const { types } = style;
  const typed = (type: MapTypes["key"], bytes: Uint8Array | undefined): Json =>
    type === undefined || bytes === undefined ? undefined : plain(type, bytes);
  return {
    ...mapJson(info),
    variables: variables?.map(({ name, type, offset, bytes }) => ({
      name,
      type: declaration(type.btf, type.id, ""),
      offset,
      value: plain(type, bytes),
    })),
    entries: sample.entries.map(({ key, values, missing }) => ({
      key: hexText(key),
      value: values.length === 1 ? hexText(values[0]) : undefined,
      values: values.length > 1 ? values.map(hexText) : undefined,
      typed_key: typed(types?.key, key),
      typed_value: values.length === 1 ? typed(types?.value, values[0]) : undefined,
      typed_values:
        values.length > 1 && types !== undefined
          ? values.map((value) => plain(types.value, value))
          : undefined,
      missing: missing === "" ? undefined : missing,
    })),
    records: sample.records.length === 0 ? undefined : sample.records.map(recordJson),
    count: sample.count,
    count_is_whole: sample.countIsWhole,
    problem: sample.problem === "" ? undefined : sample.problem,
  };
}

function recordJson({ value, owner, note }: ContentRecord): Json {
  return { value: hexText(value), owner: owner === undefined ? undefined : ownerJson(owner), note };
}

/** Formats bytes in memory order as hexadecimal: "0102ff". */
function hexText(bytes: Uint8Array = new Uint8Array()): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
}
