/** Reads the network device of an offloaded map or program. */
import type { OffloadDevice } from "../state.ts";
import { cutAtNul } from "../uapi/layout.ts";
import type { Sys } from "./sys.ts";

interface DeviceFields {
  readonly ifindex: { readonly offset: number };
  readonly netns_dev: { readonly offset: number };
  readonly netns_ino: { readonly offset: number };
}

/** Reads the members of a `struct bpf_map_info` or `struct bpf_prog_info`. Returns undefined if the object is not offloaded. */
export function offloadDevice(sys: Sys, info: DataView, fields: DeviceFields): OffloadDevice | undefined {
  const ifindex = info.getUint32(fields.ifindex.offset, true);
  if (ifindex === 0) return undefined;
  const netnsDev = info.getBigUint64(fields.netns_dev.offset, true);
  const netnsIno = info.getBigUint64(fields.netns_ino.offset, true);
  const own = sys.netns();
  // An interface index is valid only in its network namespace.
  const isOurs = own !== undefined && own.dev === netnsDev && own.ino === netnsIno;
  const name = isOurs ? sys.deviceName(ifindex) : undefined;
  return { ifindex, netnsDev, netnsIno, name: name && cutAtNul(name) };
}
