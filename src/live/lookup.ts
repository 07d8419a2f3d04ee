/** Looks up one element by key, and the key after a key: `BPF_MAP_LOOKUP_ELEM`, `BPF_MAP_GET_NEXT_KEY`. */
import type { Fd } from "../ffi.ts";
import { type CpuValue, found, type MapInfo, type Read, unreadable } from "../state.ts";
import { type BpfCommand, ELEMENT_ATTR } from "../uapi/bpf.ts";
import { EACCES, ENOENT, EPERM, errnoName, strerror } from "../uapi/errno.ts";
import { isPerCpuMap } from "../uapi/names.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import type { Sys } from "./sys.ts";
import { valueShape } from "./walk.ts";

/**
 * Returns the bytes of the value: `value_size` bytes, or for per-CPU types one value per possible CPU at the rounded
 * stride. An empty key is passed as NULL, for which queues and stacks return the element at their head.
 */
export function lookupElement(
  sys: Sys,
  fd: Fd,
  map: MapInfo,
  key: Uint8Array,
  cpuCount: () => number,
): Read<Uint8Array> {
  const shape = valueShape(map, isPerCpuMap(map.type) ? cpuCount() : 0);
  const value = pinned(shape.total);
  const attr = new Attr(ELEMENT_ATTR, { map_fd: fd.number }).point("value", value);
  if (key.length > 0) {
    const keyBytes = pinned(key.length);
    keyBytes.set(key);
    attr.point("key", keyBytes);
  }
  const result = sys.bpf("BPF_MAP_LOOKUP_ELEM", attr);
  if (result < 0) return failed("BPF_MAP_LOOKUP_ELEM", -result);
  return found(value.subarray(0, shape.cpuCount > 0 ? shape.total : map.valueSize));
}

/**
 * Returns the key after `key`, or the first key if `key` is undefined; `not-present` after the last. In an array it is the
 * next index. A hash that does not contain `key` returns its first key (kernel/bpf: `map_get_next_key` of each type).
 */
export function nextKey(sys: Sys, fd: Fd, map: MapInfo, key: Uint8Array | undefined): Read<Uint8Array> {
  const next = pinned(map.keySize);
  const attr = new Attr(ELEMENT_ATTR, { map_fd: fd.number }).point("value", next);
  if (key !== undefined) {
    const keyBytes = pinned(key.length);
    keyBytes.set(key);
    attr.point("key", keyBytes);
  }
  const result = sys.bpf("BPF_MAP_GET_NEXT_KEY", attr);
  return result < 0 ? failed("BPF_MAP_GET_NEXT_KEY", -result) : found(next.subarray(0, map.keySize));
}

function failed(command: BpfCommand, errno: number): Read<never> {
  const detail = `${command}: ${errnoName(errno)}: ${strerror(errno)}`;
  if (errno === ENOENT) return unreadable("not-present", detail);
  if (errno === EPERM || errno === EACCES) return unreadable("not-permitted", detail);
  return unreadable("unsupported", detail);
}

/** Splits the bytes of a per-CPU look-up into one `value_size` value per CPU. */
export function sliceCpus(bytes: Uint8Array, map: MapInfo, cpus: readonly number[]): CpuValue[] {
  const { stride } = valueShape(map, cpus.length);
  return cpus.map((cpu, slot) => ({
    cpu,
    value: bytes.subarray(slot * stride, slot * stride + map.valueSize),
  }));
}
