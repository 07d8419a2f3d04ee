/** Reads programs of a network device's traffic control: tcx, netkit, filters of the kind "bpf" under clsact. */

import type { Btf } from "../../btf/btf.ts";
import { i32, optional, place, ptr, struct, u8, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { MprogAttachment, TcFilter } from "../../network.ts";
import { utf8 } from "../../text.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listOf } from "../kernel/list.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { add, isNull, toBigInt } from "../memory/pointer.ts";
import type { GuestBtfs } from "./btfs.ts";
import type { DeviceAt } from "./networks.ts";
import { progId } from "./progs.ts";

const NET_DEVICE = struct("net_device", {
  tcx_ingress: optional(ptr, "since 6.6"),
  tcx_egress: optional(ptr, "since 6.6"),
  miniq_ingress: optional(ptr, "until 6.5"),
  miniq_egress: optional(ptr, "until 6.5"),
  ingress_queue: ptr,
  rtnl_link_ops: ptr,
  priv: optional(place, "since 6.12"),
});
const LINK_OPS = struct("rtnl_link_ops", { kind: ptr });
const MPROG_ENTRY = struct("bpf_mprog_entry", { fp_items: place, parent: ptr });
const MPROG_BUNDLE = struct("bpf_mprog_bundle", { cp_items: place });
const TCX_ENTRY = struct("tcx_entry", { miniq: ptr, bundle: place });
const LINK = struct("bpf_link", { id: u32 });
const NETKIT = struct("netkit", { peer: ptr, active: ptr, primary: u8 });
const QUEUE = struct("netdev_queue", { qdisc_sleeping: ptr });
const QDISC = struct("Qdisc", { ops: ptr });
const QDISC_OPS = struct("Qdisc_ops", { id: place });
const MINI_QDISC = struct("mini_Qdisc", { filter_list: ptr });
const BLOCK = struct("tcf_block", { chain_list: place });
const CHAIN = struct("tcf_chain", { list: place, filter_chain: ptr, block: ptr });
const PROTO = struct("tcf_proto", { next: ptr, root: ptr, ops: ptr, chain: ptr });
const PROTO_OPS = struct("tcf_proto_ops", { kind: place });
const CLS_BPF_HEAD = struct("cls_bpf_head", { plist: place });
const CLS_BPF_PROG = struct("cls_bpf_prog", {
  link: place,
  filter: ptr,
  exts: place,
  bpf_ops: ptr,
  bpf_name: ptr,
});
const EXTS = struct("tcf_exts", { nr_actions: i32 });

/** BPF_MPROG_MAX (include/linux/bpf_mprog.h). */
const MAX_MPROGS = 64;
/** Limit on filters; each has its own priority or handle. */
const MAX_FILTERS = 65_536;
/** NETDEV_ALIGN: alignment of `netdev_priv` before 6.12, which added the member `priv`. */
const PRIV_ALIGN = 32;
const KIND_BYTES = 16;
/** CLS_BPF_NAME_LEN (net/sched/cls_bpf.c). */
const NAME_BYTES = 256;

export class TcReader {
  readonly #kernel: GuestKernel;
  readonly #btfs: GuestBtfs;
  readonly #warn: (sentence: string) => void;
  #filterTypes: Btf | undefined;
  #areFiltersUnknown = false;

  constructor(kernel: GuestKernel, btfs: GuestBtfs, warn: (sentence: string) => void) {
    this.#kernel = kernel;
    this.#btfs = btfs;
    this.#warn = warn;
  }

  /** tcx since 6.6, netkit since 6.7. Throws `GuestFault`. */
  mprogs(device: DeviceAt): MprogAttachment[] {
    const { tcx_ingress, tcx_egress } = NET_DEVICE.resolve(this.#kernel.btf);
    const all: MprogAttachment[] = [];
    if (tcx_ingress !== undefined && tcx_egress !== undefined) {
      all.push(...this.#mprog(device, device.at.follow(tcx_ingress, "tcx_ingress"), "tcx/ingress"));
      all.push(...this.#mprog(device, device.at.follow(tcx_egress, "tcx_egress"), "tcx/egress"));
    }
    return [...all, ...this.#netkit(device)];
  }

  /** The programs of both devices of a pair are listed for the primary device (drivers/net/netkit.c, `netkit_dev_fetch`). */
  #netkit(device: DeviceAt): MprogAttachment[] {
    const { btf } = this.#kernel;
    const layout = NETKIT.resolveIfPresent(btf);
    const { rtnl_link_ops } = NET_DEVICE.resolve(btf);
    const ops = device.at.follow(rtnl_link_ops, "rtnl_link_ops");
    if (layout === undefined || ops.isNull) return [];
    if (ops.string(LINK_OPS.resolve(btf).kind, "kind", KIND_BYTES) !== "netkit") return [];
    const own = this.#private(device.at, "netkit");
    if (own.u8(layout.primary, "primary") === 0) return [];
    const peer = own.follow(layout.peer, "peer");
    const active = (netkit: StructAt): StructAt => netkit.follow(layout.active, "active");
    return [
      ...this.#mprog(device, active(own), "netkit/primary"),
      ...(peer.isNull ? [] : this.#mprog(device, active(this.#private(peer, "netkit")), "netkit/peer")),
    ];
  }

  /** `netdev_priv`: the driver's data after its device. */
  #private(device: StructAt, name: string): StructAt {
    const { priv, sizeof } = NET_DEVICE.resolve(this.#kernel.btf);
    const offset = priv ?? Math.ceil(sizeof / PRIV_ALIGN) * PRIV_ALIGN;
    return new StructAt(this.#kernel.memory, add(device.at, offset), `${name}.`);
  }

  /** `bpf_mprog_query`: the programs of an entry up to a NULL, each with the link at the same index of the bundle. */
  #mprog(device: DeviceAt, entry: StructAt, kind: MprogAttachment["kind"]): MprogAttachment[] {
    if (entry.isNull) return [];
    const { btf } = this.#kernel;
    const layout = MPROG_ENTRY.resolve(btf);
    const bundle = entry.follow(layout.parent, "parent");
    const { cp_items } = MPROG_BUNDLE.resolve(btf);
    const all: MprogAttachment[] = [];
    for (let index = 0; index < MAX_MPROGS; index++) {
      const prog = entry.pointer(layout.fp_items + index * 8, "fp_items.prog");
      if (isNull(prog)) break;
      const link = bundle.follow(cp_items + index * 8, "cp_items.link");
      all.push({
        ...{ devname: device.devname, ifindex: device.ifindex, kind },
        progId: progId(this.#kernel, prog, "bpf_mprog_entry.fp_items.prog"),
        progFlags: 0,
        linkId: link.isNull ? 0 : link.u32(LINK.resolve(btf).id, "id"),
        linkFlags: 0,
      });
    }
    return all;
  }

  /**
   * Reads filters under clsact or the queueing discipline "ingress". Other queueing disciplines store their filters in private
   * structs (their `tcf_block`); those are not found. Throws `GuestFault`.
   */
  filters(device: DeviceAt): TcFilter[] {
    const ingress = this.#block(device, "ingress");
    const egress = this.#block(device, "egress");
    // For "ingress" the kernel gives the same answer for every class (ingress_find), and bpftool asks for four.
    const kinds =
      ingress !== undefined && this.#ingressKind(device) === "ingress"
        ? ["ingress", "root", "clsact/ingress", "clsact/egress"]
        : ["clsact/ingress"];
    return [
      ...kinds.flatMap((kind) => this.#filtersOf(device, ingress, kind)),
      ...this.#filtersOf(device, egress, "clsact/egress"),
    ];
  }

  #ingressKind(device: DeviceAt): string {
    const { btf } = this.#kernel;
    const queue = device.at.follow(NET_DEVICE.resolve(btf).ingress_queue, "ingress_queue");
    if (queue.isNull) return "";
    const qdisc = queue.follow(QUEUE.resolve(btf).qdisc_sleeping, "qdisc_sleeping");
    if (qdisc.isNull) return "";
    return qdisc
      .follow(QDISC.resolve(btf).ops, "ops")
      .inlineString(QDISC_OPS.resolve(btf).id, "id", KIND_BYTES);
  }

  /** Returns the `struct tcf_block` of a `struct mini_Qdisc`, which exists if the block's first chain has filters. */
  #block(device: DeviceAt, direction: "ingress" | "egress"): StructAt | undefined {
    const { btf } = this.#kernel;
    const layout = NET_DEVICE.resolve(btf);
    const before = layout[`miniq_${direction}`];
    const entryAt = layout[`tcx_${direction}`];
    let mini: StructAt | undefined;
    if (before !== undefined) mini = device.at.follow(before, `miniq_${direction}`);
    else if (entryAt !== undefined) {
      const entry = device.at.follow(entryAt, `tcx_${direction}`);
      if (entry.isNull) return undefined;
      const tcx = TCX_ENTRY.resolve(btf);
      const bundle = entry.follow(MPROG_ENTRY.resolve(btf).parent, "parent");
      mini = bundle.outer(tcx.bundle, "tcx_entry").follow(tcx.miniq, "miniq");
    }
    if (mini === undefined || mini.isNull) return undefined;
    // `mini_Qdisc.block` is NULL at egress (clsact_init).
    const first = mini.follow(MINI_QDISC.resolve(btf).filter_list, "filter_list");
    if (first.isNull) return undefined;
    const chain = first.follow(PROTO.resolve(btf).chain, "chain");
    return chain.isNull ? undefined : chain.follow(CHAIN.resolve(btf).block, "block");
  }

  /** `tc_dump_tfilter` (net/sched/cls_api.c): the filters of every chain by priority. */
  #filtersOf(device: DeviceAt, block: StructAt | undefined, kind: string): TcFilter[] {
    if (block === undefined) return [];
    const { btf, memory } = this.#kernel;
    const chain = CHAIN.resolve(btf);
    const proto = PROTO.resolve(btf);
    const all: TcFilter[] = [];
    const seen = new Set<bigint>();
    for (const address of this.#list(
      block,
      BLOCK.resolve(btf).chain_list,
      chain.list,
      "tcf_block.chain_list",
    )) {
      if (seen.size >= MAX_FILTERS) break;
      let filter = new StructAt(memory, address, "tcf_chain.").follow(chain.filter_chain, "filter_chain");
      for (; !filter.isNull; filter = filter.follow(proto.next, "next")) {
        const at = toBigInt(filter.at.hi, filter.at.lo);
        if (seen.has(at) || seen.size >= MAX_FILTERS) break;
        seen.add(at);
        const ops = filter.follow(proto.ops, "ops");
        if (ops.inlineString(PROTO_OPS.resolve(btf).kind, "kind", KIND_BYTES) !== "bpf") continue;
        const root = filter.follow(proto.root, "root");
        if (!root.isNull) all.push(...this.#bpfFilters(device, root, kind));
      }
    }
    return all;
  }

  /** Reads a `struct cls_bpf_head *`: its programs, the newest first. */
  #bpfFilters(device: DeviceAt, head: StructAt, kind: string): TcFilter[] {
    const types = this.#types();
    if (types === undefined) return [];
    const layout = CLS_BPF_PROG.resolve(types);
    const all: TcFilter[] = [];
    for (const address of this.#list(
      head,
      CLS_BPF_HEAD.resolve(types).plist,
      layout.link,
      "cls_bpf_head.plist",
    )) {
      if (all.length >= MAX_FILTERS) break;
      const filter = new StructAt(this.#kernel.memory, address, "cls_bpf_prog.");
      const isClassic = !isNull(filter.pointer(layout.bpf_ops, "bpf_ops"));
      const name = filter.string(layout.bpf_name, "bpf_name", NAME_BYTES);
      if (filter.i32(layout.exts + EXTS.resolve(this.#kernel.btf).nr_actions, "exts.nr_actions") > 0)
        this.#warn(`${utf8(device.devname)}, ${kind}: actions of filters are not read from memory`);
      all.push({
        ...{ devname: device.devname, ifindex: device.ifindex, kind },
        name: isClassic || name === "" ? undefined : Buffer.from(name),
        progId: isClassic
          ? undefined
          : progId(this.#kernel, filter.pointer(layout.filter, "filter"), "cls_bpf_prog.filter"),
        actions: undefined,
      });
    }
    return all;
  }

  #list(outer: StructAt, offset: number, member: number, path: string): Iterable<{ hi: number; lo: number }> {
    return listOf(this.#kernel, add(outer.at, offset), member, path, (error) => {
      this.#warn(`filters are left out: ${error instanceof Error ? error.message : error}`);
    });
  }

  /** Returns the types of net/sched/cls_bpf.c, which is a module in most kernels. */
  #types(): Btf | undefined {
    if (this.#filterTypes !== undefined || this.#areFiltersUnknown) return this.#filterTypes;
    if (CLS_BPF_PROG.resolveIfPresent(this.#kernel.btf) !== undefined) this.#filterTypes = this.#kernel.btf;
    else {
      const module = this.#btfs.infos().find(({ kernel, name }) => kernel && utf8(name) === "cls_bpf");
      try {
        if (module !== undefined) this.#filterTypes = this.#btfs.byId(module.id);
      } catch (error) {
        if (!(error instanceof KtstrError)) throw error;
      }
    }
    this.#areFiltersUnknown = this.#filterTypes === undefined;
    if (this.#areFiltersUnknown)
      this.#warn('filters of the kind "bpf" are left out: the types of the module cls_bpf were not found');
    return this.#filterTypes;
  }
}
