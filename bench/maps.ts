/** Creates and fills maps of the running kernel through ktstr's bpf(2) layer. A map exists until its descriptor is closed. */
import { addressOf, bpf, Fd } from "../src/ffi.ts";
import { Attr } from "../src/live/attr.ts";
import { objectInfo } from "../src/live/objects.ts";
import { bpfOrThrow, realSys } from "../src/live/sys.ts";
import { BATCH_ATTR, MAP_CREATE_ATTR, MAP_INFO } from "../src/uapi/bpf.ts";

/** `BPF_MAP_UPDATE_BATCH`, which ktstr itself does not use. */
const UPDATE_BATCH = 26;
const BATCH = 65_536;

export interface BenchMap {
  readonly fd: Fd;
  readonly id: number;
}

export function createMap(
  type: number,
  keySize: number,
  valueSize: number,
  maxEntries: number,
  name: string,
): BenchMap {
  const attr = new Attr(MAP_CREATE_ATTR, {
    map_type: type,
    key_size: keySize,
    value_size: valueSize,
    max_entries: maxEntries,
  }).setBytes("map_name", Buffer.from(name));
  const fd = new Fd(bpfOrThrow(realSys, "BPF_MAP_CREATE", attr, name), name);
  const id = objectInfo(realSys, fd, MAP_INFO, name).getUint32(MAP_INFO.fields.id.offset, true);
  return { fd, id };
}

/** Fills a map with `count` elements. The first word of a key is the number of the element, and the value is computed from it. */
export function fillMap(map: BenchMap, keySize: number, valueSize: number, count: number): void {
  const keys = new Uint8Array(new ArrayBuffer(BATCH * keySize));
  const values = new Uint8Array(new ArrayBuffer(BATCH * valueSize));
  const keyView = new DataView(keys.buffer);
  const valueView = new DataView(values.buffer);
  for (let first = 0; first < count; first += BATCH) {
    const size = Math.min(BATCH, count - first);
    for (let index = 0; index < size; index++) {
      keyView.setUint32(index * keySize, first + index, true);
      for (let at = 0; at + 4 <= valueSize; at += 4) {
        valueView.setUint32(index * valueSize + at, (first + index) * (at + 7), true);
      }
    }
    const attr = new Attr(BATCH_ATTR, { map_fd: map.fd.number, count: size })
      .point("keys", keys)
      .point("values", values);
    const result = bpf(UPDATE_BATCH, attr.bytes);
    if (result < 0) throw new Error(`BPF_MAP_UPDATE_BATCH: errno ${-result} at ${addressOf(keys)}`);
  }
}
