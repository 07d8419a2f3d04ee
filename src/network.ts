/** Programs that are attached to network devices and namespaces, as both data paths read them. */

export const XDP_MODES = ["generic", "driver", "offload"] as const;

interface OnDevice {
  readonly devname: Uint8Array;
  readonly ifindex: number;
}

export interface XdpProg {
  readonly mode: (typeof XDP_MODES)[number];
  readonly progId: number;
  /** undefined: rtnetlink does not tell. */
  readonly hasLink: boolean | undefined;
}

/** XDP programs of a device: one, or one of each of several modes. */
export interface XdpDevice extends OnDevice {
  readonly progs: readonly XdpProg[];
}

/** A program of tcx or netkit: a list that the kernel runs in its order (kernel/bpf/mprog.c). */
export interface MprogAttachment extends OnDevice {
  readonly kind: "tcx/ingress" | "tcx/egress" | "netkit/primary" | "netkit/peer";
  readonly progId: number;
  readonly progFlags: number;
  /** 0: attached without a link. */
  readonly linkId: number;
  readonly linkFlags: number;
}

/** A filter of the kind "bpf" (net/sched/cls_bpf.c). */
export interface TcFilter extends OnDevice {
  /** Its parent: "clsact/ingress", "clsact/egress", "root", or a queueing discipline's or a class's kind. */
  readonly kind: string;
  /** What whoever made it called it; undefined: it has no name. */
  readonly name: Uint8Array | undefined;
  /** undefined: a filter of classic BPF. */
  readonly progId: number | undefined;
  /** Actions of the kind "bpf"; undefined: it has no actions. */
  readonly actions:
    | readonly { readonly name: Uint8Array | undefined; readonly progId: number | undefined }[]
    | undefined;
}

export type TcAttachment = MprogAttachment | TcFilter;

/** A network namespace and what is attached in it. */
export interface Network {
  /** Inode number of the namespace's file in /proc/PID/ns; undefined where there is no /proc. */
  readonly netnsIno: number | undefined;
  readonly xdp: readonly XdpDevice[];
  /** By device; of each tcx, netkit, filters. */
  readonly tc: readonly TcAttachment[];
  /** The program's id. */
  readonly flowDissector: number | undefined;
}

export interface NetworkAccessor {
  /**
   * Of the running kernel our own network namespace alone. Of a frozen machine the initial one, and every other in which
   * something is attached. `devname`: devices of this name alone. Throws `KtstrError` where there is no such device, or it
   * cannot be asked.
   */
  networks(devname?: string): readonly Network[];
}
