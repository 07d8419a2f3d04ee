/** Lists the programs on network devices of this network namespace: rtnetlink and `BPF_PROG_QUERY`. */
import { KtstrError, SyscallError } from "../errors.ts";
import type { MprogAttachment, Network, TcFilter, XdpDevice } from "../network.ts";
import { XDP_MODES } from "../network.ts";
import { printable } from "../text.ts";
import { QUERY_ATTR } from "../uapi/bpf.ts";
import { ENOENT, EPERM, errnoName } from "../uapi/errno.ts";
import { cutAtNul } from "../uapi/layout.ts";
import { ATTACH_TYPES } from "../uapi/names.ts";
import * as netlink from "../uapi/netlink.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import { bpfError, type Sys } from "./sys.ts";

interface Device {
  readonly devname: Uint8Array;
  readonly ifindex: number;
}

const NO_NAME = new Uint8Array();

/** Throws `SyscallError`, or `KtstrError` if no device has the name. `warn` receives a sentence about each omission. */
export function queryNetworks(
  sys: Sys,
  devname: string | undefined,
  warn: (sentence: string) => void,
): Network[] {
  const netns = sys.netns();
  const flowDissector = queryFlowDissector(sys, warn);
  const xdp: XdpDevice[] = [];
  const devices: Device[] = [];
  const names: string[] = [];
  for (const { ifindex, attributes } of dump(sys, netlink.linkRequest(), "the network devices")) {
    const name = cutAtNul(attributes.get(netlink.IFLA_IFNAME) ?? NO_NAME);
    names.push(printable(name));
    if (devname !== undefined && !Buffer.from(devname).equals(name)) continue;
    const device = { devname: name, ifindex };
    devices.push(device);
    const progs = xdpProgs(attributes.get(netlink.IFLA_XDP));
    if (progs.length > 0) xdp.push({ ...device, progs });
  }
  if (devname !== undefined && devices.length === 0)
    throw new KtstrError(`there is no network device ${JSON.stringify(devname)}`, {
      hint: `this network namespace has ${names.join(", ")}`,
    });
  const tc = devices.flatMap((device) => [
    ...MPROG_KINDS.flatMap((kind) => mprogs(sys, device, kind)),
    ...filters(sys, device),
  ]);
  return [{ netnsIno: netns === undefined ? undefined : Number(netns.ino), xdp, tc, flowDissector }];
}

function dump(sys: Sys, request: Uint8Array<ArrayBuffer>, of: string): readonly netlink.RouteMessage[] {
  const answer = sys.routeDump(request);
  if (typeof answer === "number")
    throw new SyscallError("rtnetlink", of, -answer, errnoName(-answer), "the kernel needs CONFIG_NET");
  return answer;
}

function xdpProgs(nested: Uint8Array | undefined): XdpDevice["progs"] {
  if (nested === undefined) return [];
  const attributes = netlink.attributesOf(nested);
  const id = (type: number): number | undefined => netlink.numberOf(attributes.get(type));
  const attached = netlink.XDP_ATTACHED[id(netlink.IFLA_XDP_ATTACHED) ?? 0];
  if (attached === undefined) return [];
  const reported =
    attached === "multi"
      ? XDP_MODES.map((mode, index) => ({ mode, progId: id(netlink.IFLA_XDP_MODE_PROG_IDS[index]!) }))
      : [{ mode: attached, progId: id(netlink.IFLA_XDP_PROG_ID) }];
  return reported.flatMap(({ mode, progId }) =>
    progId === undefined ? [] : [{ mode, progId, hasLink: undefined }],
  );
}

const MPROG_KINDS = ["tcx/ingress", "tcx/egress", "netkit/primary", "netkit/peer"] as const;
/** BPF_MPROG_MAX */
const MAX_MPROGS = 64;

/** The kernel returns an error for a device without such a list or an unknown attach type: the result is empty. */
function mprogs(sys: Sys, device: Device, kind: MprogAttachment["kind"]): MprogAttachment[] {
  const lists = Array.from({ length: 4 }, () => pinned(MAX_MPROGS * 4));
  const [progs, progFlags, links, linkFlags] = lists;
  const attr = new Attr(QUERY_ATTR, {
    target_fd: device.ifindex,
    attach_type: (ATTACH_TYPES as readonly string[]).indexOf(kind.replace("/", "_")),
    prog_cnt: MAX_MPROGS,
  })
    .point("prog_ids", progs)
    .point("prog_attach_flags", progFlags)
    .point("link_ids", links)
    .point("link_attach_flags", linkFlags);
  const done = sys.bpf("BPF_PROG_QUERY", attr);
  if (done === -EPERM) throw bpfError("BPF_PROG_QUERY", `${printable(device.devname)}, ${kind}`, done);
  if (done < 0) return [];
  const [prog, progFlag, link, linkFlag] = lists.map((bytes) => new Uint32Array(bytes.buffer));
  return Array.from({ length: Math.min(attr.get("prog_cnt"), MAX_MPROGS) }, (_, index) => ({
    ...device,
    kind,
    progId: prog![index]!,
    progFlags: progFlag![index]!,
    linkId: link![index]!,
    linkFlags: linkFlag![index]!,
  }));
}

/** Lists the filters under every class and queueing discipline, then those under clsact, which has no class. */
function filters(sys: Sys, device: Device): TcFilter[] {
  const of = (type: number): { kind: string; handle: number }[] =>
    dump(sys, netlink.tcRequest(type, device.ifindex), printable(device.devname)).map(
      ({ handle, attributes }) => ({
        kind: attributes.has(netlink.TCA_KIND) ? text(attributes.get(netlink.TCA_KIND)) : "unknown",
        handle,
      }),
    );
  const parents = [
    ...of(netlink.RTM_GETTCLASS),
    ...of(netlink.RTM_GETQDISC).filter(({ kind, handle }) => kind !== "clsact" && handle !== 0),
    { kind: "root", handle: netlink.TC_H_ROOT },
    { kind: "clsact/ingress", handle: netlink.TC_H_INGRESS },
    { kind: "clsact/egress", handle: netlink.TC_H_EGRESS },
  ];
  return parents.flatMap(({ kind, handle }) =>
    dump(
      sys,
      netlink.tcRequest(netlink.RTM_GETTFILTER, device.ifindex, handle),
      printable(device.devname),
    ).flatMap(({ attributes }) => filterOf(device, kind, attributes)),
  );
}

const text = (bytes: Uint8Array | undefined): string => Buffer.from(cutAtNul(bytes ?? NO_NAME)).toString();

function filterOf(device: Device, kind: string, attributes: netlink.Attributes): TcFilter[] {
  const nested = attributes.get(netlink.TCA_OPTIONS);
  // The head of a protocol and priority, which has no options, comes before its filters.
  if (nested === undefined || text(attributes.get(netlink.TCA_KIND)) !== "bpf") return [];
  const options = netlink.attributesOf(nested);
  const actions = options.get(netlink.TCA_BPF_ACT);
  return [
    {
      ...device,
      kind,
      ...named(options, netlink.TCA_BPF_NAME, netlink.TCA_BPF_ID),
      actions: actions === undefined ? undefined : bpfActions(actions),
    },
  ];
}

function named(
  attributes: netlink.Attributes,
  nameType: number,
  idType: number,
): { name: Uint8Array | undefined; progId: number | undefined } {
  const name = attributes.get(nameType);
  return {
    name: name === undefined ? undefined : cutAtNul(name),
    progId: netlink.numberOf(attributes.get(idType)),
  };
}

function bpfActions(nested: Uint8Array): NonNullable<TcFilter["actions"]> {
  const inOrder = [...netlink.attributesOf(nested)].sort(([a], [b]) => a - b);
  return inOrder.flatMap(([, bytes]) => {
    const action = netlink.attributesOf(bytes);
    const options = action.get(netlink.TCA_ACT_OPTIONS);
    if (options === undefined || text(action.get(netlink.TCA_ACT_KIND)) !== "bpf") return [];
    return [named(netlink.attributesOf(options), netlink.TCA_ACT_BPF_NAME, netlink.TCA_ACT_BPF_ID)];
  });
}

/** Returns the program id; undefined if there is none, or before 5.8, which cannot query it. */
function queryFlowDissector(sys: Sys, warn: (sentence: string) => void): number | undefined {
  const opened = sys.openFile("/proc/self/ns/net");
  if (typeof opened === "number") {
    if (opened === -ENOENT) {
      warn("the flow dissector is not shown: its query needs /proc/self/ns/net, which does not exist");
      return undefined;
    }
    throw new SyscallError("open", "/proc/self/ns/net", -opened, errnoName(-opened), "");
  }
  using fd = opened;
  const ids = pinned(4);
  const attr = new Attr(QUERY_ATTR, {
    target_fd: fd.number,
    attach_type: (ATTACH_TYPES as readonly string[]).indexOf("flow_dissector"),
    prog_cnt: 1,
  }).point("prog_ids", ids);
  const done = sys.bpf("BPF_PROG_QUERY", attr);
  if (done === -EPERM) throw bpfError("BPF_PROG_QUERY", "flow_dissector", done);
  if (done < 0 || attr.get("prog_cnt") !== 1) return undefined;
  return new Uint32Array(ids.buffer)[0];
}
