/** One element by its key, and the key that follows another: `BPF_MAP_LOOKUP_ELEM`, `BPF_MAP_GET_NEXT_KEY`. */
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
 * The value's bytes: `value_size` of them, and for per-CPU types every possible CPU's at the rounded stride.
 * A key without bytes is NULL, with which queues and stacks show the element that would come next.
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
 * The key that the kernel gives for the one after `key`, or its first; `not-present` behind the last. Of an array that is
 * the next index, of a hash that does not hold `key` its first (kernel/bpf: the `map_get_next_key` of each type).
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

/** A per-CPU look-up's bytes, cut into each CPU's `value_size` at the rounded stride. */
export function sliceCpus(bytes: Uint8Array, map: MapInfo, cpus: readonly number[]): CpuValue[] {
  const { stride } = valueShape(map, cpus.length);
  return cpus.map((cpu, slot) => ({
    cpu,
    value: bytes.subarray(slot * stride, slot * stride + map.valueSize),
  }));
}
