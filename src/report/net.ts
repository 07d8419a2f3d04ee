/** Programs of network devices and namespaces as `bpftool net show` prints them (tools/bpf/bpftool/net.c, netlink_dumper.c). */
import type { MprogAttachment, Network, TcAttachment, TcFilter, XdpDevice, XdpProg } from "../network.ts";
import type { BpfState, LinkDetails, LinkInfo } from "../state.ts";
import { printable, utf8 } from "../text.ts";
import { LinkType } from "../uapi/names.ts";
import type { Json } from "./json.ts";
import { FAMILIES, INET_HOOKS, NFPROTO_ARP, NFPROTO_NETDEV } from "./link-place.ts";

type State = Pick<BpfState, "progById">;

/** Returns netfilter links in bpftool's order: by family, hook, priority, flags. */
export function netfilterLinks(links: readonly LinkInfo[]): LinkInfo[] {
  const keys = ({ details: { pf, hook, prio, flags } }: LinkInfo): number[] =>
    [pf, hook, prio, flags].map(Number);
  return links
    .filter(({ type }) => type === LinkType.netfilter)
    .sort((a, b) => {
      const ours = keys(b);
      return keys(a).reduce((order, value, index) => order || value - ours[index]!, 0);
    });
}

/** `netfilter`: links of all namespaces. Like bpftool, prints all of them in each namespace. */
export function networkJson(state: State, network: Network, netfilter: readonly LinkInfo[]): Json {
  return {
    xdp: network.xdp.map(xdpJson),
    tc: network.tc.map((one) => ("linkId" in one ? mprogJson(state, one) : filterJson(one))),
    // bpftool prints invalid JSON here if there is a dissector: a member in an array.
    flow_dissector: network.flowDissector === undefined ? [] : [{ id: network.flowDissector }],
    netfilter: netfilter.map(({ progId, details: { pf, hook, prio, flags } }) => ({
      ...{ pf, hook, prio, flags },
      id: progId,
    })) as Json,
    netns_ino: network.netnsIno,
  };
}

const deviceJson = ({
  devname,
  ifindex,
}: TcAttachment | XdpDevice): { devname: string; ifindex: number } => ({
  devname: utf8(devname),
  ifindex,
});

function xdpJson(device: XdpDevice): Json {
  const progs = device.progs.map(({ mode, progId }) => ({ mode, id: progId }));
  const [only] = progs;
  if (progs.length === 1) return { ...deviceJson(device), ...only };
  return { ...deviceJson(device), multi_attachments: progs };
}

/** Returns the name of the program, if it has one. */
function nameOf(state: State, progId: number): Uint8Array | undefined {
  const name = state.progById(progId)?.fullName;
  return name === undefined || name.length === 0 ? undefined : name;
}

const bitsOf = (flags: number): number[] =>
  Array.from({ length: 32 }, (_, bit) => 2 ** bit).filter((bit) => (flags & bit) !== 0);

function mprogJson(state: State, one: MprogAttachment): Json {
  const name = nameOf(state, one.progId);
  return {
    ...deviceJson(one),
    kind: one.kind,
    name: name && utf8(name),
    prog_id: one.progId,
    prog_flags: bitsOf(one.progFlags),
    link_id: one.linkId,
    link_flags: bitsOf(one.linkFlags),
  };
}

function filterJson(one: TcFilter): Json {
  return {
    // For a device without a name, bpftool prints the index alone. There is no such device.
    ...deviceJson(one),
    kind: one.kind,
    name: one.name && utf8(one.name),
    id: one.progId,
    act: one.actions?.map(({ name, progId }) => ({ name: name && utf8(name), id: progId })),
  };
}

/** Formats a namespace in bpftool's layout, without the last line feed. */
export function networkText(state: State, network: Network, netfilter: readonly LinkInfo[]): string {
  const xdp = network.xdp.map((device) => {
    const progs = device.progs.map(({ mode, progId }) => ` ${mode} id ${progId}`);
    return `${placeOf(device)}${progs.join("")}\n`;
  });
  const tc = network.tc.map((one) => ("linkId" in one ? mprogText(state, one) : filterText(one)));
  const dissector = network.flowDissector === undefined ? "" : `id ${network.flowDissector}`;
  const hooks = netfilter.map(({ progId, details }) => {
    const flags = Number(details["flags"] ?? 0);
    return `\n\t${netfilterHook(details)} prio ${details["prio"]}${flags === 0 ? "" : ` flags 0x${flags.toString(16)}`} prog_id ${progId}`;
  });
  return [
    `xdp:\n${xdp.join("")}\n`,
    `tc:\n${tc.join("")}\n`,
    `flow_dissector:\n${dissector}\n`,
    `netfilter:\n${hooks.join("")}`,
  ].join("");
}

/** Like `netfilter_dump_plain` of bpftool's link.c, which names fewer hooks than `ktstr link show`. */
function netfilterHook({ pf, hook }: LinkDetails): string {
  const family = FAMILIES[Number(pf)] ?? `pf: ${pf}`;
  const isInet = pf !== NFPROTO_ARP && pf !== NFPROTO_NETDEV && FAMILIES[Number(pf)] !== undefined;
  const hooks = isInet ? INET_HOOKS : pf === NFPROTO_ARP ? ARP_HOOKS : [];
  const name = hooks[Number(hook)];
  return `${family}${name === undefined ? `, hook ${hook},` : ` ${name}`}`;
}

const ARP_HOOKS = ["input", "output"];

const placeOf = ({ devname, ifindex }: TcAttachment | XdpDevice): string =>
  `${printable(devname)}(${ifindex})`;

function mprogText(state: State, one: MprogAttachment): string {
  const name = nameOf(state, one.progId);
  const flags = (bits: number, word: string): string =>
    bits === 0 ? "" : `${word} ${bitsOf(bits).join(" ")} `;
  const link = one.linkId === 0 ? "" : `link_id ${one.linkId} ${flags(one.linkFlags, "link_flags")}`;
  return `${placeOf(one)} ${one.kind}${name === undefined ? "" : ` ${printable(name)}`} prog_id ${one.progId} ${flags(one.progFlags, "prog_flags")}${link}\n`;
}

function filterText({ name, progId, actions, ...one }: TcFilter): string {
  const title =
    (name === undefined ? "" : ` ${printable(name)}`) + (progId === undefined ? "" : ` id ${progId}`);
  const acts = actions?.map(
    (act) =>
      `{${act.name === undefined ? "" : printable(act.name)}${act.progId === undefined ? "" : ` id ${act.progId}`}}`,
  );
  return `${placeOf(one as TcFilter)} ${printable(Buffer.from(one.kind))}${title}${acts === undefined ? "" : ` act [${acts.join("")}] `}\n`;
}

/** Returns the places of programs that are attached without a link: "lo, clsact/ingress". */
export function unlinkedPlaces(
  network: Network,
  links: readonly LinkInfo[],
): { progId: number; devname: Uint8Array; kind: string }[] {
  const hasLink = (ifindex: number, { progId, hasLink }: XdpProg): boolean =>
    hasLink ??
    links.some(
      ({ type, progId: of, details }) =>
        type === LinkType.xdp && of === progId && details["ifindex"] === ifindex,
    );
  const xdp = network.xdp.flatMap(({ devname, ifindex, progs }) =>
    progs
      .filter((prog) => !hasLink(ifindex, prog))
      .map(({ mode, progId }) => ({ progId, devname, kind: `xdp ${mode}` })),
  );
  const tc = network.tc.flatMap((one) => {
    const { devname, kind } = one;
    if ("linkId" in one) return one.linkId === 0 ? [{ progId: one.progId, devname, kind }] : [];
    return [one.progId, ...(one.actions ?? []).map(({ progId }) => progId)].flatMap((progId) =>
      progId === undefined ? [] : [{ progId, devname, kind }],
    );
  });
  return [...xdp, ...tc];
}
