/** Lists programs of network namespaces and devices: `net_namespace_list` -> every `struct net`, `struct net_device`. */
import { at, i32, place, ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { Network, TcAttachment, XdpDevice } from "../../network.ts";
import { XDP_MODES } from "../../network.ts";
import { similarWords } from "../../similar-words.ts";
import { printable } from "../../text.ts";
import { cutAtNul } from "../../uapi/layout.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listOf } from "../kernel/list.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { requireSymbol } from "../kernel/symbols.ts";
import { add, type Pointer, toBigInt } from "../memory/pointer.ts";
import type { GuestBtfs } from "./btfs.ts";
import { IFNAMSIZ } from "./offload.ts";
import { progArrayIds } from "./prog-array.ts";
import { progId } from "./progs.ts";
import { TcReader } from "./tc.ts";

const NET = struct("net", {
  list: place,
  dev_base_head: place,
  inum: at(u32, "ns.inum"),
  run_array: at(place, "bpf.run_array"),
});
const NET_DEVICE = struct("net_device", {
  dev_list: place,
  name: place,
  ifindex: i32,
  xdp_prog: ptr,
  xdp_state: place,
});
const XDP_ENTITY = struct("bpf_xdp_entity", { prog: ptr, link: ptr });
const XDP_LINK = struct("bpf_xdp_link", { prog: at(ptr, "link.prog") });

/** Limits: a container host has hundreds of namespaces and thousands of devices. */
const MAX_NETWORKS = 65_536;
const MAX_DEVICES = 1_000_000;
/** `NETNS_BPF_FLOW_DISSECTOR` (include/net/netns/bpf.h): an index in `netns_bpf.run_array`. */
const FLOW_DISSECTOR = 0;

/** A network device; its name and index are used in messages. */
export interface DeviceAt {
  readonly at: StructAt;
  readonly devname: Uint8Array;
  readonly ifindex: number;
}

/** Returns the initial network namespace, then the others that have programs. Throws `KtstrError`. */
export function listNetworks(
  kernel: GuestKernel,
  btfs: GuestBtfs,
  devname: string | undefined,
  warn: (sentence: string) => void,
): Network[] {
  const head = requireSymbol(kernel.symbols, "net_namespace_list");
  const init = requireSymbol(kernel.symbols, "init_net");
  const layout = NET.resolve(kernel.btf);
  const tc = new TcReader(kernel, btfs, warn);
  const onFault = warnWith(warn, "network namespaces are left out");
  const networks: Network[] = [];
  const names = new Set<string>();
  let isFound = devname === undefined;
  let budget = MAX_DEVICES;
  for (const net of listOf(kernel, head, layout.list, "net_namespace_list", onFault)) {
    if (networks.length === MAX_NETWORKS || budget <= 0) {
      warn(`network namespaces: stopped after ${networks.length}`);
      break;
    }
    try {
      const devices = [...devicesOf(kernel, net, warn, budget)];
      budget -= devices.length + 1;
      for (const device of devices) names.add(printable(device.devname));
      const wanted = devices.filter(
        (one) => devname === undefined || Buffer.from(devname).equals(one.devname),
      );
      isFound ||= wanted.length > 0;
      const network = networkOf(kernel, new StructAt(kernel.memory, net, "net."), wanted, tc, warn);
      const { xdp, tc: filters, flowDissector } = network;
      const isEmpty = xdp.length === 0 && filters.length === 0 && flowDissector === undefined;
      if (toBigInt(net.hi, net.lo) === toBigInt(init.hi, init.lo)) networks.unshift(network);
      else if (!isEmpty) networks.push(network);
    } catch (error) {
      onFault(error);
    }
  }
  if (!isFound) {
    const near = similarWords(devname!, [...names]);
    throw new KtstrError(`there is no network device ${JSON.stringify(devname)} (${names.size} names seen)`, {
      hint:
        near.length > 0
          ? `did you mean ${near.join(" or ")}?`
          : `there are ${[...names].slice(0, 20).join(", ")}`,
    });
  }
  return networks;
}

/** Returns a handler that warns about an `Error`, and throws any other value. */
function warnWith(warn: (sentence: string) => void, what: string): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof Error)) throw error;
    warn(`${what}: ${error.message}`);
  };
}

/** Returns up to `limit` devices, by ascending index, which is the order of rtnetlink. */
function devicesOf(
  kernel: GuestKernel,
  net: Pointer,
  warn: (sentence: string) => void,
  limit: number,
): DeviceAt[] {
  const layout = NET_DEVICE.resolve(kernel.btf);
  const devices: DeviceAt[] = [];
  const onFault = warnWith(warn, "network devices are left out");
  const head = add(net, NET.resolve(kernel.btf).dev_base_head);
  for (const address of listOf(kernel, head, layout.dev_list, "net.dev_base_head", onFault)) {
    if (devices.length >= limit) break;
    const { hi, lo } = address;
    try {
      devices.push({
        at: new StructAt(kernel.memory, address, "net_device."),
        devname: cutAtNul(kernel.memory.copy(hi, lo, layout.name, IFNAMSIZ, "net_device.name")),
        ifindex: kernel.memory.i32(hi, lo, layout.ifindex, "net_device.ifindex"),
      });
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      onFault(error);
    }
  }
  return devices.sort((a, b) => a.ifindex - b.ifindex);
}

function networkOf(
  kernel: GuestKernel,
  net: StructAt,
  devices: readonly DeviceAt[],
  tcReader: TcReader,
  warn: (sentence: string) => void,
): Network {
  const layout = NET.resolve(kernel.btf);
  const xdp: XdpDevice[] = [];
  const tc: TcAttachment[] = [];
  for (const device of devices) {
    try {
      const progs = xdpProgs(kernel, device.at);
      if (progs.length > 0) xdp.push({ devname: device.devname, ifindex: device.ifindex, progs });
      tc.push(...tcReader.mprogs(device), ...tcReader.filters(device));
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      warn(`network device ${printable(device.devname)}: ${error.message}`);
    }
  }
  const [flowDissector] = progArrayIds(
    kernel,
    net.follow(layout.run_array + FLOW_DISSECTOR * 8, "bpf.run_array"),
  );
  return { netnsIno: net.u32(layout.inum, "ns.inum"), xdp, tc, flowDissector };
}

/** Like `rtnl_xdp_fill` (net/core/rtnetlink.c): the generic program, then those of the driver and of the device. */
function xdpProgs(kernel: GuestKernel, device: StructAt): XdpDevice["progs"] {
  const layout = NET_DEVICE.resolve(kernel.btf);
  const entity = XDP_ENTITY.resolve(kernel.btf);
  const progs = XDP_MODES.map((mode, index) => {
    const at = layout.xdp_state + index * entity.sizeof;
    const link = device.follow(at + entity.link, "xdp_state.link");
    let prog = device.pointer(at + entity.prog, "xdp_state.prog");
    if (mode === "generic") prog = device.pointer(layout.xdp_prog, "xdp_prog");
    else if (!link.isNull) prog = link.pointer(XDP_LINK.resolve(kernel.btf).prog, "link.prog");
    return { mode, progId: progId(kernel, prog, "net_device.xdp_state.prog"), hasLink: !link.isNull };
  });
  return progs.filter((one) => one.progId !== 0);
}
