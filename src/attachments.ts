/** What programs are attached to without a link, and where objects are pinned: what both data paths read of it. */

import type { NetworkAccessor } from "./network.ts";

/** A program that is attached to a cgroup, by a link or without. */
export interface CgroupProg {
  /** `enum bpf_attach_type`. */
  readonly attachType: number;
  readonly progId: number;
  /** `BPF_F_ALLOW_OVERRIDE`, `BPF_F_ALLOW_MULTI`; undefined among the effective programs, which have none. */
  readonly flags: number | undefined;
}

/** A cgroup that has programs. */
export interface CgroupProgs {
  /** Of the running kernel the directory's path; of a frozen machine the path in the hierarchy, "/" for its root. */
  readonly path: Uint8Array;
  /** Steps below the cgroup where the listing began. */
  readonly level: number;
  /** By attach type in the order of `CGROUP_ATTACH_TYPES`, each in the order in which the kernel runs them. */
  readonly progs: readonly CgroupProg[];
}

export interface CgroupQuery {
  /** Where to begin; undefined: at the root of the hierarchy. */
  readonly path: string | undefined;
  /** With the cgroups below. */
  readonly isTree: boolean;
  /** What runs for the cgroup, its ancestors' programs too; else what is attached to it. */
  readonly isEffective: boolean;
}

/** What a program is attached to by a descriptor: a perf event, or a raw tracepoint's link (`enum bpf_task_fd_type`). */
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
  /** A tracepoint, a function or a file; empty: a kprobe at an address. */
  readonly name: Uint8Array;
  /** From the function's or the file's start. */
  readonly offset: bigint;
  /** Of a kprobe; 0 to a reader without CAP_SYSLOG. */
  readonly address: bigint;
}

export interface AttachmentAccessor extends NetworkAccessor {
  /** Throws `KtstrError` where there is no such cgroup, or it cannot be asked. */
  cgroups(query: CgroupQuery): readonly CgroupProgs[];
  /** By process and descriptor. Throws `KtstrError` where descriptors cannot be asked. */
  perfAttachments(): readonly PerfAttachment[];
}

/** What can be pinned. */
export type PinnedKind = "map" | "program" | "link";

export interface PinAccessor {
  /** Paths in file systems of type bpf by the object's id. Throws `KtstrError` where mounts cannot be read. */
  pinnedPaths(kind: PinnedKind): ReadonlyMap<number, readonly Uint8Array[]>;
}
