/** Encodes rtnetlink requests and decodes replies (include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, pkt_cls.h). */

const NLMSG_HEADER_BYTES = 16;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;

export const RTM_GETLINK = 18;
export const RTM_GETQDISC = 38;
export const RTM_GETTCLASS = 42;
export const RTM_GETTFILTER = 46;

/** Size of `struct ifinfomsg`. */
const IFINFO_BYTES = 16;
/** Size of `struct tcmsg`. */
const TCMSG_BYTES = 20;
const AF_PACKET = 17;

export const IFLA_IFNAME = 3;
export const IFLA_XDP = 43;
export const IFLA_XDP_ATTACHED = 2;
export const IFLA_XDP_PROG_ID = 4;
/** Program ids of the generic, driver and offload modes, for devices with several programs. */
export const IFLA_XDP_MODE_PROG_IDS: readonly number[] = [6, 5, 7];
export const TCA_KIND = 1;
export const TCA_OPTIONS = 2;
export const TCA_BPF_ACT = 1;
export const TCA_BPF_NAME = 7;
export const TCA_BPF_ID = 11;
export const TCA_ACT_KIND = 1;
export const TCA_ACT_OPTIONS = 2;
export const TCA_ACT_BPF_NAME = 6;
export const TCA_ACT_BPF_ID = 9;

/** XDP_ATTACHED_DRV, _SKB, _HW and _MULTI of if_link.h. */
export const XDP_ATTACHED: Readonly<Record<number, "driver" | "generic" | "offload" | "multi">> = {
  1: "driver",
  2: "generic",
  3: "offload",
  4: "multi",
};

/** include/uapi/linux/pkt_sched.h: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `TC_H_MIN_EGRESS`, `TC_H_ROOT`. */
export const TC_H_INGRESS = 0xffff_fff2;
export const TC_H_EGRESS = 0xffff_fff3;
export const TC_H_ROOT = 0xffff_ffff;

function request(type: number, payloadBytes: number): { bytes: Uint8Array<ArrayBuffer>; view: DataView } {
  const bytes = new Uint8Array(new ArrayBuffer(NLMSG_HEADER_BYTES + payloadBytes));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_DUMP, true);
  return { bytes, view };
}

/** Requests all devices in the network namespace of the socket. */
export function linkRequest(): Uint8Array<ArrayBuffer> {
  const { bytes } = request(RTM_GETLINK, IFINFO_BYTES);
  bytes[NLMSG_HEADER_BYTES] = AF_PACKET;
  return bytes;
}

/** Requests the queueing disciplines, classes, or filters of a device. `parent` selects filters. */
export function tcRequest(type: number, ifindex: number, parent: number = 0): Uint8Array<ArrayBuffer> {
  const { bytes, view } = request(type, TCMSG_BYTES);
  view.setInt32(NLMSG_HEADER_BYTES + 4, ifindex, true);
  view.setUint32(NLMSG_HEADER_BYTES + 12, parent, true);
  return bytes;
}

/** Payloads of attributes by type. If a type repeats, the last one is kept. */
export type Attributes = ReadonlyMap<number, Uint8Array>;

/** Parses the attributes of a message or of a nested attribute. Stops at one that exceeds `bytes`. */
export function attributesOf(bytes: Uint8Array): Attributes {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const all = new Map<number, Uint8Array>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    // The two bits above the type are NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    all.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return all;
}

/** Reads the number in an attribute of 1 or 4 bytes. Returns undefined if the attribute is missing or too short. */
export function numberOf(bytes: Uint8Array | undefined): number | undefined {
  if (bytes?.length === 1) return bytes[0];
  if (bytes === undefined || bytes.length < 4) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

/** One message of a dump: a device or a traffic control object. */
export interface RouteMessage {
  readonly ifindex: number;
  /** `tcm_handle`; for a device `ifi_flags`, which has the same offset. */
  readonly handle: number;
  readonly attributes: Attributes;
}

/**
 * Parses one datagram of the reply to `request`. `end` is 0 if the dump ends in it, `-errno` if the kernel reports an error,
 * and undefined if more datagrams follow.
 */
export function messagesOf(
  datagram: Uint8Array,
  request: Uint8Array<ArrayBuffer>,
): { messages: RouteMessage[]; end: number | undefined } {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const messages: RouteMessage[] = [];
  const fixed = new DataView(request.buffer).getUint16(4, true) === RTM_GETLINK ? IFINFO_BYTES : TCMSG_BYTES;
  for (let at = 0; at + NLMSG_HEADER_BYTES <= datagram.length; ) {
    const length = view.getUint32(at, true);
    const kind = view.getUint16(at + 4, true);
    if (length < NLMSG_HEADER_BYTES || at + length > datagram.length) break;
    const body = at + NLMSG_HEADER_BYTES;
    // The payload of NLMSG_DONE is the dump's own error (net/netlink/af_netlink.c, netlink_dump_done).
    if (kind === NLMSG_DONE || kind === NLMSG_ERROR)
      return { messages, end: length < 20 ? 0 : view.getInt32(body, true) };
    if (length >= NLMSG_HEADER_BYTES + fixed)
      messages.push({
        ifindex: view.getInt32(body + 4, true),
        handle: view.getUint32(body + 8, true),
        attributes: attributesOf(datagram.subarray(body + fixed, at + length)),
      });
    at += (length + 3) & ~3;
  }
  return { messages, end: undefined };
}
