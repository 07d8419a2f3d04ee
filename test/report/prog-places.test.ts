/** Attachments that cannot be read. */
import { expect, test } from "bun:test";
import type { AttachmentAccessor } from "../../src/attachments.ts";
import { progPlaces } from "../../src/report/prog-places.ts";
import { type BpfState, found, type Read, unreadable } from "../../src/state.ts";
import { MapType } from "../../src/uapi/names.ts";
import { mapInfo } from "./support/map-info.ts";

test.each([
  ["value", unreadable("not-permitted", "BPF_MAP_LOOKUP_ELEM: EPERM"), "map 5: BPF_MAP_LOOKUP_ELEM: EPERM"],
  ["types", found(new Uint8Array(64)), "map 5: its types cannot be read"],
] as const)(
  "a struct_ops map whose %s cannot be read is a problem",
  (_, value: Read<Uint8Array>, problem) => {
    const map = mapInfo({ id: 5, type: MapType.struct_ops, valueSize: 64 });
    const none = (): never[] => [];
    const state = {
      links: none,
      cgroups: none,
      perfAttachments: none,
      networks: none,
      maps: () => [map],
      readValue: () => value,
      btf: () => unreadable("unsupported", ""),
      kernelBtf: () => unreadable("unsupported", ""),
    } as unknown as BpfState & AttachmentAccessor;
    expect(progPlaces(state).problems).toEqual([problem]);
  },
);
