/** Attributes of a map for tests. */
import type { MapInfo } from "../../../src/state.ts";

/** Returns a hash map with four-byte keys, eight-byte values, no name and no types, except as given. */
export const mapInfo = (over: Partial<MapInfo> = {}): MapInfo => ({
  id: 1,
  type: 1,
  keySize: 4,
  valueSize: 8,
  maxEntries: 10,
  flags: 0,
  name: new Uint8Array(),
  device: undefined,
  btfId: 0,
  btfKeyTypeId: 0,
  btfValueTypeId: 0,
  btfVmlinuxValueTypeId: 0,
  btfVmlinuxId: 0,
  mapExtra: 0n,
  frozen: false,
  memlockBytes: undefined,
  ownerProgType: undefined,
  ownerJited: undefined,
  location: undefined,
  ...over,
});
