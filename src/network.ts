/** Types that both data paths return for programs attached to network devices and namespaces. */

export const XDP_MODES = ["generic", "driver", "offload"] as const;

interface OnDevice {
  readonly devname: Uint8Array;
  readonly ifindex: number;
}

export interface XdpProg {
  readonly mode: (typeof XDP_MODES)[number];
  readonly progId: number;
  /** undefined if unknown: rtnetlink does not report it. */
  readonly hasLink: boolean | undefined;
}

/** The XDP programs of a device: one, or one per mode. */
export interface XdpDevice extends OnDevice {
  readonly progs: readonly XdpProg[];
}

/** A program of tcx or netkit. The kernel runs such programs in list order (kernel/bpf/mprog.c). */
export interface MprogAttachment extends OnDevice {
  readonly kind: "tcx/ingress" | "tcx/egress" | "netkit/primary" | "netkit/peer";
  readonly progId: number;
  readonly progFlags: number;
  /** 0 if attached without a link. */
  readonly linkId: number;
  readonly linkFlags: number;
}

/** A filter of kind "bpf" (net/sched/cls_bpf.c). */
export interface TcFilter extends OnDevice {
  /** The parent: "clsact/ingress", "clsact/egress", "root", or the kind of a queueing discipline or class. */
  readonly kind: string;
  /** The name given by the creator; undefined if there is none. */
  readonly name: Uint8Array | undefined;
  /** undefined for a classic BPF filter. */
  readonly progId: number | undefined;
  /** Actions of kind "bpf"; undefined if there are no actions. */
  readonly actions:
    | readonly { readonly name: Uint8Array | undefined; readonly progId: number | undefined }[]
    | undefined;
}

export type TcAttachment = MprogAttachment | TcFilter;

/** A network namespace and its attachments. */
export interface Network {
  /** Inode number of the namespace in /proc/PID/ns; undefined without /proc. */
  readonly netnsIno: number | undefined;
  readonly xdp: readonly XdpDevice[];
  /** Grouped by device: tcx, netkit, then filters. */
  readonly tc: readonly TcAttachment[];
  /** The id of the program. */
  readonly flowDissector: number | undefined;
}

export interface NetworkAccessor {
  /**
   * Live: our own network namespace. Frozen machine: the initial namespace and all others with attachments. `devname` selects
   * devices by name. Throws `KtstrError` if there is no such device or it cannot be queried.
   */
  networks(devname?: string): readonly Network[];
}
