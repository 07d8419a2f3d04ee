/** Describes the place of a link's attachment: "on interface veth0, ingress". */

import type { Btf } from "../btf/btf.ts";
import type { BpfState, LinkDetails, LinkInfo, ProgInfo, Read } from "../state.ts";
import { escapeText, printable } from "../text.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import { LinkType } from "../uapi/names.ts";

type State = Pick<BpfState, "progById" | "mapById" | "btf" | "kernelBtf">;

/**
 * Returns a function that describes the place of a link, or returns "" if the link's info does not have it. Programs, maps
 * and BTF objects are opened when a link refers to them.
 */
export function linkPlaces(state: State): (link: LinkInfo) => string {
  const names = new Names(state);
  return (link) => {
    const { details } = link;
    if (details["unreadable"] !== undefined) return "";
    return PLACES[link.type]?.(details, link, names) ?? "";
  };
}

type Place = (details: LinkDetails, link: LinkInfo, names: Names) => string;

const PLACES: Readonly<Record<number, Place>> = {
  [LinkType.raw_tracepoint]: (details) => `at tracepoint ${word(details["tp_name"])}`,
  [LinkType.tracing]: tracing,
  [LinkType.cgroup]: (details) => `${cgroup(details)}, ${word(details["attach_type"])}`,
  [LinkType.iter]: iteration,
  [LinkType.netns]: (details) => `${namespace(details["netns_ino"])}, ${word(details["attach_type"])}`,
  [LinkType.xdp]: (details) => device(details),
  [LinkType.perf_event]: perfEvent,
  [LinkType.kprobe_multi]: (details) => {
    const functions = details["funcs"];
    const list = Array.isArray(functions) ? functions.map((each) => word(each.func ?? hex(each.addr))) : [];
    return `at ${returnOf(details)}${counted(details["func_cnt"], "function")}${first(list)}`;
  },
  [LinkType.struct_ops]: (details, _, names) => `as the operations of map ${names.map(details["map_id"])}`,
  [LinkType.netfilter]: netfilter,
  [LinkType.tcx]: (details) => `${device(details)}, ${word(details["attach_type"]).replace(/^tcx_/, "")}`,
  [LinkType.uprobe_multi]: (details) => {
    const functions = details["funcs"];
    const list = Array.isArray(functions) ? functions.map(({ offset }) => `+${hex(offset)}`) : [];
    const process = details["pid"] === 0 ? "" : `, in process ${word(details["pid"])}`;
    return `at ${returnOf(details)}${counted(details["func_cnt"], "place")} of ${word(details["path"])}${first(list)}${process}`;
  },
  [LinkType.netkit]: (details) =>
    `${device(details)}, ${word(details["attach_type"]).replace(/^netkit_/, "")}`,
  [LinkType.sockmap]: (details, _, names) =>
    `on the sockets of map ${names.map(details["map_id"])}, ${word(details["attach_type"])}`,
};

const word = (value: LinkDetails[string] | undefined): string => escapeText(String(value ?? "?"));
const hex = (value: LinkDetails[string] | undefined): string =>
  typeof value === "number" || typeof value === "bigint" ? `0x${value.toString(16)}` : "?";
const returnOf = (details: LinkDetails): string => (details["retprobe"] === true ? "the return of " : "");
const counted = (count: LinkDetails[string] | undefined, noun: string): string =>
  `${word(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Limit on named places of a multi link. */
const SHOWN = 3;

function first(list: readonly string[]): string {
  if (list.length === 0) return "";
  return `: ${list.slice(0, SHOWN).join(", ")}${list.length > SHOWN ? ", ..." : ""}`;
}

function device({ devname, ifindex }: LinkDetails): string {
  if (ifindex === 0) return "on an interface that is gone";
  if (devname === "(unknown)") return `on interface ${word(ifindex)} of another network namespace`;
  return `on interface ${word(devname)}`;
}

function cgroup({ cgroup_id: id, cgroup_path: path }: LinkDetails): string {
  if (path !== undefined) return `in cgroup ${word(path)}`;
  return id === 0 ? "in a cgroup that is gone" : `in cgroup ${word(id)}`;
}

function namespace(inode: LinkDetails[string] | undefined): string {
  return inode === 0 ? "in a network namespace that is gone" : `in network namespace ${word(inode)}`;
}

/** `NFPROTO_*` (include/uapi/linux/netfilter.h), as bpftool names them. */
export const FAMILIES: Readonly<Record<number, string>> = {
  1: "inet",
  2: "ip",
  3: "arp",
  5: "netdev",
  7: "bridge",
  10: "ip6",
};
export const NFPROTO_ARP = 3;
export const NFPROTO_NETDEV = 5;
/** `enum nf_inet_hooks` (include/uapi/linux/netfilter.h). */
export const INET_HOOKS: readonly string[] = ["prerouting", "input", "forward", "output", "postrouting"];
const ARP_HOOKS = ["input", "output", "forward"];
const NETDEV_HOOKS = ["ingress", "egress"];

function netfilter({ pf, hook, prio }: LinkDetails): string {
  const hooks = pf === NFPROTO_ARP ? ARP_HOOKS : pf === NFPROTO_NETDEV ? NETDEV_HOOKS : INET_HOOKS;
  const family = FAMILIES[Number(pf)] ?? `family ${word(pf)}`;
  return `at netfilter hook ${family} ${hooks[Number(hook)] ?? word(hook)}, priority ${word(prio)}`;
}

function iteration(
  { target_name: target, map_id: map, ...details }: LinkDetails,
  _: LinkInfo,
  names: Names,
): string {
  const over = `over ${word(target)}`;
  if (map !== undefined) return `${over} of map ${names.map(map)}`;
  if (details["tid"] !== undefined) return `${over} of thread ${word(details["tid"])}`;
  if (details["pid"] !== undefined) return `${over} of process ${word(details["pid"])}`;
  if (details["cgroup_id"] === undefined) return over;
  return `${over}, from ${cgroup(details).replace(/^in /, "")}, ${word(details["order"])}`;
}

function perfEvent(details: LinkDetails): string {
  const { tracepoint, func, file, offset, event_type: type } = details;
  if (tracepoint !== undefined) return `at tracepoint ${word(tracepoint)}`;
  const inside = offset === 0 || offset === undefined ? "" : `+${hex(offset)}`;
  if (file !== undefined) return `at ${returnOf(details)}${word(file)}${inside || "+0x0"}`;
  if (func !== undefined)
    return `at ${returnOf(details)}${func === "" ? `address ${hex(details["addr"])}` : `function ${word(func)}`}${inside}`;
  return type === undefined ? "" : `at perf event ${word(type)} ${word(details["event_config"])}`;
}

/** Place in a function, by `attach_type`. */
const AT_FUNCTION: Readonly<Record<string, string>> = {
  trace_fentry: "at the entry of",
  trace_fexit: "at the return of",
  trace_fsession: "at the entry and the return of",
  modify_return: "instead of",
  lsm_mac: "at the LSM hook",
  lsm_cgroup: "at the LSM hook",
  trace_raw_tp: "at tracepoint",
};

/**
 * `target_obj_id` is the id of the kernel's or a module's BTF object for a kernel function, or the id of the target program
 * for a function of a program (`bpf_trampoline_compute_key` of include/linux/bpf_verifier.h).
 */
function tracing(details: LinkDetails, { progId }: LinkInfo, names: Names): string {
  const target = Number(details["target_obj_id"]);
  const type = Number(details["target_btf_id"]);
  const how = AT_FUNCTION[String(details["attach_type"])] ?? "at";
  // Before 5.11, the kernel's own types have no BTF object and thus no id. A type of 0 is not known.
  if (target === 0) {
    const name = type === 0 ? "" : names.kernelType(type);
    return name === "" ? "" : `${how}${nounOf(how)} ${name}`;
  }
  const isKernelType = names.prog(progId)?.attachBtfObjId === target;
  const prog = isKernelType ? undefined : names.prog(target);
  const name = names.type(isKernelType ? target : (prog?.btfId ?? 0), type);
  const ofProgram = isKernelType
    ? ""
    : ` of prog ${target}${prog === undefined ? "" : ` ${printable(prog.fullName)}`}`;
  const what = name === "" ? `type ${type}${isKernelType ? ` of BTF ${target}` : ""}` : name;
  // An extension replaces the function. Its attach type is 0, which has the name of another type.
  const verb = details["attach_type"] === "cgroup_inet_ingress" ? "instead of" : how;
  return `${verb}${nounOf(verb)} ${what}${ofProgram}`;
}

const nounOf = (verb: string): string =>
  verb.includes("LSM") || verb.includes("tracepoint") ? "" : " function";

class Names {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  prog(id: number): ProgInfo | undefined {
    return this.#state.progById(id);
  }

  /** Returns a map's id and name: "12 scx_simple.bss". */
  map(id: LinkDetails[string] | undefined): string {
    const name = printable(this.#state.mapById(Number(id))?.name ?? new Uint8Array());
    return `${word(id)}${name === "" ? "" : ` ${name}`}`;
  }

  /** Returns the name of a function, or of a tracepoint from its typedef `btf_trace_NAME`; "" if it cannot be read. */
  type(btfId: number, typeId: number): string {
    return btfId === 0 ? "" : this.#name(this.#state.btf(btfId), typeId);
  }

  /** Returns such a name from the kernel's own types. */
  kernelType(typeId: number): string {
    return this.#name(this.#state.kernelBtf(), typeId);
  }

  #name(btf: Read<Btf>, typeId: number): string {
    if (!btf.ok || typeId >= btf.value.typeCount) return "";
    const name = escapeText(btf.value.typeName(typeId));
    return btf.value.kind(typeId) === BTF_KIND.TYPEDEF ? name.replace(/^btf_trace_/, "") : name;
  }
}
