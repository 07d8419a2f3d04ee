/**
 * Reads `struct bpf_array`: an array of values, each rounded up to 8 bytes, or of pointers to per-CPU values. A
 * `BPF_F_MMAPABLE` array is allocated so that its values are page-aligned; they still follow `struct bpf_array`
 * (kernel/bpf/arraymap.c, `array_map_alloc`).
 */
import { place, struct } from "../../../btf/struct.ts";
import {
  type CpuValue,
  type EntryCursor,
  found,
  type Read,
  type Unreadable,
  unreadable,
} from "../../../state.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { type GuestMemory, LOCATE_MAX_BYTES } from "../../memory/memory.ts";
import { add, type Pointer } from "../../memory/pointer.ts";
import { PerCpuValue, perCpuShape } from "./percpu-value.ts";
import { clearFields, readSpecialFields, type SpecialField } from "./special-fields.ts";
import {
  attempt,
  BatchedCursor,
  copyBytes,
  type GuestMap,
  IndexCursor,
  mostObjects,
  roundUp8,
  shapeOf,
} from "./walk.ts";

const BPF_ARRAY = struct("bpf_array", { value: place, pptrs: place });

/** Returns the address of the first value. */
export const arrayValues = ({ btf }: GuestKernel, { at }: GuestMap): Pointer =>
  add(at, BPF_ARRAY.resolve(btf).value);

/** Walks the elements by index. Throws `GuestFault`. */
export function arrayEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { valueSize, maxEntries } = map.info;
  const stride = roundUp8(valueSize);
  if (stride <= BATCH_BYTES / 2) return new ArrayCursor(kernel, map);
  const { memory } = kernel;
  const { hi, lo } = map.at;
  const start = BPF_ARRAY.resolve(kernel.btf).value;
  const fields = readSpecialFields(kernel, map);
  const isPlain = fields.length === 0 && valueSize <= LOCATE_MAX_BYTES;
  return new IndexCursor(kernel, shapeOf(map), { count: maxEntries, bytesEach: stride }, (index, cursor) => {
    if (isPlain) {
      const at = memory.locate(hi, lo, start + index * stride, valueSize);
      if (at < 0) return cursor.account.skip("not-present");
      cursor.valueBytes = memory.bytes;
      cursor.valueOffset = at;
      return "value";
    }
    const value = readElement(kernel, map, fields, index);
    if (!value.ok) return cursor.account.skip(value.why.reason);
    cursor.valueBytes = value.value;
    cursor.valueOffset = 0;
    return "value";
  });
}

/** Bytes of values that are copied together: must fit in the L1 cache. */
const BATCH_BYTES = 32 * 1024;
/** Elements of the first batch: most callers stop after the first few. */
const FIRST_BATCH = 16;

/** Walks values of up to half a batch, and copies several at a time. */
class ArrayCursor extends BatchedCursor {
  readonly #memory: GuestMemory;
  readonly #at: Pointer;
  readonly #stride: number;
  readonly #end: number;
  readonly #fields: readonly SpecialField[];
  /** The keys of the current batch. */
  readonly #keys: Uint32Array;
  #batch = FIRST_BATCH;
  #next = 0;

  constructor(kernel: GuestKernel, map: GuestMap) {
    const stride = roundUp8(map.info.valueSize);
    const most = mostObjects(kernel, stride);
    const count = Math.min(map.info.maxEntries, most);
    const room = Math.min(count, Math.floor(BATCH_BYTES / stride));
    super(shapeOf(map), new Int32Array(room), new Int32Array(room));
    this.#memory = kernel.memory;
    this.#at = add(map.at, BPF_ARRAY.resolve(kernel.btf).value);
    this.#stride = stride;
    this.#end = count;
    if (count < map.info.maxEntries)
      this.account.stopped = `stopped after ${most} of ${map.info.maxEntries}: the image cannot hold more`;
    this.#fields = readSpecialFields(kernel, map);
    this.#keys = new Uint32Array(room);
    this.keyBytes = new Uint8Array(this.#keys.buffer);
    this.valueBytes = new Uint8Array(room * stride);
    for (let n = 0; n < room; n++) {
      this.keyOffsets[n] = 4 * n;
      this.valueOffsets[n] = stride * n;
    }
  }

  protected fill(): boolean {
    while (this.#next < this.#end) {
      const count = this.#read(Math.min(this.#batch, this.#keys.length, this.#end - this.#next));
      if (count > 0) {
        this.account.seen();
        this.index = 0;
        this.batchEnd = count;
        return true;
      }
      this.#next++;
      this.account.skip("not-present");
      if (this.account.stopped !== "") break;
    }
    return false;
  }

  /** Copies up to `most` values, up to the first that is not in the image. Returns their number. */
  #read(most: number): number {
    const { hi, lo } = this.#at;
    const stride = this.#stride;
    const into = this.valueBytes.subarray(0, most * stride);
    // The memory after the last element's value may not be in the image.
    const got = this.#memory.copyOut(hi, lo, this.#next * stride, into);
    const count = got === into.length ? most : Math.floor((got + stride - this.valueSize) / stride);
    for (let n = 0; n < count; n++) this.#keys[n] = this.#next + n;
    for (let n = 0; this.#fields.length > 0 && n < count; n++)
      clearFields(this.#fields, this.valueBytes, n * stride);
    this.#next += count;
    this.#batch = this.#keys.length;
    return count;
  }
}

/** Looks up one element of an array. */
export function readArray(kernel: GuestKernel, map: GuestMap, key: number): Read<Uint8Array> {
  if (map.info.type !== MapType.array) return unreadable("wrong-type", "not an array");
  return checkIndex(map, key) ?? attempt(() => readElement(kernel, map, readSpecialFields(kernel, map), key));
}

/** Returns `length` bytes at `offset` of an array's first value. The caller checks the bounds. */
export function readArrayPart(
  kernel: GuestKernel,
  map: GuestMap,
  offset: number,
  length: number,
): Read<Uint8Array> {
  return attempt(() => {
    const fields = readSpecialFields(kernel, map);
    const start = BPF_ARRAY.resolve(kernel.btf).value + offset;
    const bytes = copyBytes(kernel, map.at, start, length, `map ${map.info.id}.value`);
    clearFields(fields, bytes, -offset);
    return found(bytes);
  });
}

function readElement(
  kernel: GuestKernel,
  map: GuestMap,
  fields: readonly SpecialField[],
  index: number,
): Read<Uint8Array> {
  return attempt(() => {
    const { valueSize, id } = map.info;
    const start = BPF_ARRAY.resolve(kernel.btf).value + index * roundUp8(valueSize);
    const bytes = copyBytes(kernel, map.at, start, valueSize, `map ${id}.value[${index}]`);
    clearFields(fields, bytes, 0);
    return found(bytes);
  });
}

/** Walks the elements of a per-CPU array. Throws `GuestFault`. */
export function percpuArrayEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory } = kernel;
  const { hi, lo } = map.at;
  const values = new PerCpuValue(kernel, map);
  const start = BPF_ARRAY.resolve(kernel.btf).pptrs;
  const shape = perCpuShape(kernel, map);
  const bounds = { count: map.info.maxEntries, bytesEach: 8 };
  return new IndexCursor(kernel, shape, bounds, (index, cursor) => {
    const at = memory.locate(hi, lo, start + index * 8, 8);
    if (at < 0) return cursor.account.skip("not-present");
    if (!values.read(memory.view.getInt32(at + 4, true), memory.view.getInt32(at, true)))
      return cursor.account.skip("not-present");
    cursor.valueBytes = values.bytes;
    return "value";
  });
}

/** Looks up one element of a per-CPU array: every CPU's copy. */
export function readPercpuArray(kernel: GuestKernel, map: GuestMap, key: number): Read<readonly CpuValue[]> {
  if (map.info.type !== MapType.percpu_array) return unreadable("wrong-type", "not a per-CPU array");
  return (
    checkIndex(map, key) ??
    attempt(() => {
      const path = `map ${map.info.id}.pptrs[${key}]`;
      const start = BPF_ARRAY.resolve(kernel.btf).pptrs + key * 8;
      const values = new PerCpuValue(kernel, map);
      const { hi, lo } = kernel.memory.pointer(map.at.hi, map.at.lo, start, path);
      if (!values.read(hi, lo)) throw kernel.memory.fault(path);
      return found(values.values(map.info.valueSize));
    })
  );
}

/** Returns an error if the key is not an index of the map; otherwise undefined. */
export function checkIndex({ info }: GuestMap, key: number): { ok: false; why: Unreadable } | undefined {
  if (Number.isInteger(key) && key >= 0 && key < info.maxEntries) return undefined;
  return unreadable("out-of-range", `key ${key} is out of range: the map has ${info.maxEntries} entries`);
}
