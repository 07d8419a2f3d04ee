/** Types that both data paths return for program attachments without a link and for pinned objects. */

import type { NetworkAccessor } from "./network.ts";

/** A program attached to a cgroup, with or without a link. */
export interface CgroupProg {
  /** `enum bpf_attach_type`. */
  readonly attachType: number;
  readonly progId: number;
  /** `BPF_F_ALLOW_OVERRIDE`, `BPF_F_ALLOW_MULTI`; undefined for effective programs, which have no flags. */
  readonly flags: number | undefined;
}

/** A cgroup with programs. */
export interface CgroupProgs {
  /** Live: the path of the directory. Frozen machine: the path in the hierarchy, "/" for the root. */
  readonly path: Uint8Array;
  /** Number of levels below the cgroup where the listing starts. */
  readonly level: number;
  /** Grouped by attach type in the order of `CGROUP_ATTACH_TYPES`, and in the kernel's execution order within each type. */
  readonly progs: readonly CgroupProg[];
}

export interface CgroupQuery {
  /** The cgroup where the listing starts; undefined for the root of the hierarchy. */
  readonly path: string | undefined;
  /** Include the descendants. */
  readonly isTree: boolean;
  /** List the programs that run for the cgroup, including those of its ancestors, instead of those attached to it. */
  readonly isEffective: boolean;
}

/** Kinds of attachments that a file descriptor holds: perf events and links of raw tracepoints (`enum bpf_task_fd_type`). */
export const PERF_KINDS = [
  "raw_tracepoint",
  "tracepoint",
  "kprobe",
  "kretprobe",
  "uprobe",
  "uretprobe",
] as const;

export interface PerfAttachment {
  readonly pid: number;
  readonly fd: number;
  readonly progId: number;
  readonly kind: (typeof PERF_KINDS)[number];
  /** The name of a tracepoint, function or file; empty for a kprobe at an address. */
  readonly name: Uint8Array;
  /** Offset from the start of the function or file. */
  readonly offset: bigint;
  /** Address of a kprobe; 0 if the reader does not have CAP_SYSLOG. */
  readonly address: bigint;
}

export interface AttachmentAccessor extends NetworkAccessor {
  /** Throws `KtstrError` if the cgroup does not exist or cannot be queried. */
  cgroups(query: CgroupQuery): readonly CgroupProgs[];
  /** Sorted by process and descriptor. Throws `KtstrError` if descriptors cannot be queried. */
  perfAttachments(): readonly PerfAttachment[];
}

/** Object types that can be pinned. */
export type PinnedKind = "map" | "program" | "link";

export interface PinAccessor {
  /** Paths in file systems of type bpf, by object id. Throws `KtstrError` if the mounts cannot be read. */
  pinnedPaths(kind: PinnedKind): ReadonlyMap<number, readonly Uint8Array[]>;
}
