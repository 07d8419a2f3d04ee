/** Names of perf events as bpftool prints them: `PERF_TYPE_*` and `PERF_COUNT_*` of include/uapi/linux/perf_event.h. */

/** `enum perf_type_id`. */
const PERF_TYPES = ["hardware", "software", "tracepoint", "hw-cache", "raw", "breakpoint"] as const;
const PERF_TYPE_HARDWARE = 0;
const PERF_TYPE_SOFTWARE = 1;
const PERF_TYPE_HW_CACHE = 3;

/** `enum perf_hw_id`. */
const HARDWARE_EVENTS = [
  "cpu-cycles",
  "instructions",
  "cache-references",
  "cache-misses",
  "branch-instructions",
  "branch-misses",
  "bus-cycles",
  "stalled-cycles-frontend",
  "stalled-cycles-backend",
  "ref-cycles",
] as const;

/** `enum perf_sw_ids`. */
const SOFTWARE_EVENTS = [
  "cpu-clock",
  "task-clock",
  "page-faults",
  "context-switches",
  "cpu-migrations",
  "minor-faults",
  "major-faults",
  "alignment-faults",
  "emulation-faults",
  "dummy",
  "bpf-output",
  "cgroup-switches",
] as const;

/** `enum perf_hw_cache_id`, `perf_hw_cache_op_id`, `perf_hw_cache_op_result_id`: one byte each in `config`. */
const CACHES = ["L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node"] as const;
const CACHE_OPS = ["load", "store", "prefetch"] as const;
const CACHE_RESULTS = ["refs", "misses"] as const;

/** Returns the name of a `perf_event_attr.type`, or the number if it has none (a dynamic PMU). */
export function perfEventType(type: number): string | number {
  return PERF_TYPES[type] ?? type;
}

/** Returns the name of a `perf_event_attr.config`, or the number if it has none. */
export function perfEventConfig(type: number, config: number | bigint): string | number | bigint {
  const index = Number(config);
  if (type === PERF_TYPE_HARDWARE) return HARDWARE_EVENTS[index] ?? config;
  if (type === PERF_TYPE_SOFTWARE) return SOFTWARE_EVENTS[index] ?? config;
  if (type !== PERF_TYPE_HW_CACHE) return config;
  const bits = BigInt(config);
  const name = (names: readonly string[], value: bigint): string => names[Number(value)] ?? value.toString();
  return `${name(CACHES, bits & 0xffn)}-${name(CACHE_OPS, (bits >> 8n) & 0xffn)}-${name(CACHE_RESULTS, bits >> 16n)}`;
}
