/**
 * Names of the enums in `include/uapi/linux/bpf.h`. They are the names of bpftool and libbpf: the kernel's identifier without
 * its prefix, in lower case. A newer kernel can use numbers past the end of a table.
 */

/** `enum bpf_map_type`, up to Linux 7.2. */
export const MAP_TYPES = [
  "unspec",
  "hash",
  "array",
  "prog_array",
  "perf_event_array",
  "percpu_hash",
  "percpu_array",
  "stack_trace",
  "cgroup_array",
  "lru_hash",
  "lru_percpu_hash",
  "lpm_trie",
  "array_of_maps",
  "hash_of_maps",
  "devmap",
  "sockmap",
  "cpumap",
  "xskmap",
  "sockhash",
  "cgroup_storage",
  "reuseport_sockarray",
  "percpu_cgroup_storage",
  "queue",
  "stack",
  "sk_storage",
  "devmap_hash",
  "struct_ops",
  "ringbuf",
  "inode_storage",
  "task_storage",
  "bloom_filter",
  "user_ringbuf",
  "cgrp_storage",
  "arena",
  "insn_array",
  "rhash",
] as const;

export type MapTypeName = (typeof MAP_TYPES)[number];

/** `enum bpf_map_type` by name: `MapType.percpu_hash` is `BPF_MAP_TYPE_PERCPU_HASH`. */
export const MapType: Readonly<Record<MapTypeName, number>> = byName(MAP_TYPES);

/** `enum bpf_prog_type`, up to Linux 7.2. */
export const PROG_TYPES = [
  "unspec",
  "socket_filter",
  "kprobe",
  "sched_cls",
  "sched_act",
  "tracepoint",
  "xdp",
  "perf_event",
  "cgroup_skb",
  "cgroup_sock",
  "lwt_in",
  "lwt_out",
  "lwt_xmit",
  "sock_ops",
  "sk_skb",
  "cgroup_device",
  "sk_msg",
  "raw_tracepoint",
  "cgroup_sock_addr",
  "lwt_seg6local",
  "lirc_mode2",
  "sk_reuseport",
  "flow_dissector",
  "cgroup_sysctl",
  "raw_tracepoint_writable",
  "cgroup_sockopt",
  "tracing",
  "struct_ops",
  "ext",
  "lsm",
  "sk_lookup",
  "syscall",
  "netfilter",
] as const;

export type ProgTypeName = (typeof PROG_TYPES)[number];

export const ProgType: Readonly<Record<ProgTypeName, number>> = byName(PROG_TYPES);

/** `enum bpf_link_type`, up to Linux 7.2. */
export const LINK_TYPES = [
  "unspec",
  "raw_tracepoint",
  "tracing",
  "cgroup",
  "iter",
  "netns",
  "xdp",
  "perf_event",
  "kprobe_multi",
  "struct_ops",
  "netfilter",
  "tcx",
  "uprobe_multi",
  "netkit",
  "sockmap",
  "tracing_multi",
] as const;

export type LinkTypeName = (typeof LINK_TYPES)[number];

export const LinkType: Readonly<Record<LinkTypeName, number>> = byName(LINK_TYPES);

/** `enum bpf_attach_type`, up to Linux 7.2. */
export const ATTACH_TYPES = [
  "cgroup_inet_ingress",
  "cgroup_inet_egress",
  "cgroup_inet_sock_create",
  "cgroup_sock_ops",
  "sk_skb_stream_parser",
  "sk_skb_stream_verdict",
  "cgroup_device",
  "sk_msg_verdict",
  "cgroup_inet4_bind",
  "cgroup_inet6_bind",
  "cgroup_inet4_connect",
  "cgroup_inet6_connect",
  "cgroup_inet4_post_bind",
  "cgroup_inet6_post_bind",
  "cgroup_udp4_sendmsg",
  "cgroup_udp6_sendmsg",
  "lirc_mode2",
  "flow_dissector",
  "cgroup_sysctl",
  "cgroup_udp4_recvmsg",
  "cgroup_udp6_recvmsg",
  "cgroup_getsockopt",
  "cgroup_setsockopt",
  "trace_raw_tp",
  "trace_fentry",
  "trace_fexit",
  "modify_return",
  "lsm_mac",
  "trace_iter",
  "cgroup_inet4_getpeername",
  "cgroup_inet6_getpeername",
  "cgroup_inet4_getsockname",
  "cgroup_inet6_getsockname",
  "xdp_devmap",
  "cgroup_inet_sock_release",
  "xdp_cpumap",
  "sk_lookup",
  "xdp",
  "sk_skb_verdict",
  "sk_reuseport_select",
  "sk_reuseport_select_or_migrate",
  "perf_event",
  "trace_kprobe_multi",
  "lsm_cgroup",
  "struct_ops",
  "netfilter",
  "tcx_ingress",
  "tcx_egress",
  "trace_uprobe_multi",
  "cgroup_unix_connect",
  "cgroup_unix_sendmsg",
  "cgroup_unix_recvmsg",
  "cgroup_unix_getpeername",
  "cgroup_unix_getsockname",
  "netkit_primary",
  "netkit_peer",
  "trace_kprobe_session",
  "trace_uprobe_session",
  "trace_fsession",
  "trace_fentry_multi",
  "trace_fexit_multi",
  "trace_fsession_multi",
] as const;

const CGROUP_ORDER: readonly (typeof ATTACH_TYPES)[number][] = [
  "cgroup_inet_ingress",
  "cgroup_inet_egress",
  "cgroup_inet_sock_create",
  "cgroup_inet_sock_release",
  "cgroup_inet4_bind",
  "cgroup_inet6_bind",
  "cgroup_inet4_post_bind",
  "cgroup_inet6_post_bind",
  "cgroup_inet4_connect",
  "cgroup_inet6_connect",
  "cgroup_unix_connect",
  "cgroup_inet4_getpeername",
  "cgroup_inet6_getpeername",
  "cgroup_unix_getpeername",
  "cgroup_inet4_getsockname",
  "cgroup_inet6_getsockname",
  "cgroup_unix_getsockname",
  "cgroup_udp4_sendmsg",
  "cgroup_udp6_sendmsg",
  "cgroup_unix_sendmsg",
  "cgroup_udp4_recvmsg",
  "cgroup_udp6_recvmsg",
  "cgroup_unix_recvmsg",
  "cgroup_sock_ops",
  "cgroup_device",
  "cgroup_sysctl",
  "cgroup_getsockopt",
  "cgroup_setsockopt",
  "lsm_cgroup",
];

/** The attach types of cgroups in the order of bpftool's output (tools/bpf/bpftool/cgroup.c). */
export const CGROUP_ATTACH_TYPES: readonly number[] = CGROUP_ORDER.map((name) => ATTACH_TYPES.indexOf(name));

/** Returns a name, or the number if the table has no name for it, as bpftool prints it. */
export function nameOr(names: readonly string[], value: number): string | number {
  return names[value] ?? value;
}

function byName<Name extends string>(names: readonly Name[]): Readonly<Record<Name, number>> {
  return Object.fromEntries(names.map((name, value) => [name, value])) as Record<Name, number>;
}

/** Returns whether the type is a per-CPU map. A lookup in such a map returns one value per possible CPU. */
export function isPerCpuMap(type: number): boolean {
  return (
    type === MapType.percpu_hash ||
    type === MapType.percpu_array ||
    type === MapType.lru_percpu_hash ||
    type === MapType.percpu_cgroup_storage
  );
}

/** Returns whether the type is a hash table with one value per key. `BPF_MAP_LOOKUP_BATCH` reads it bucket by bucket. */
export function isHashMap(type: number): boolean {
  return type === MapType.hash || type === MapType.lru_hash;
}

/** Returns whether the type is an array. All elements of an array always exist. */
export function isArrayMap(type: number): boolean {
  return type === MapType.array || type === MapType.percpu_array;
}

export function isPerCpuHashMap(type: number): boolean {
  return type === MapType.percpu_hash || type === MapType.lru_percpu_hash;
}

/** `BPF_OBJ_NAME_LEN`: 15 usable bytes and a NUL. */
export const BPF_OBJ_NAME_LEN = 16;

/** `map_flags` of `struct bpf_map_info`. */
export const BPF_F_NO_PREALLOC = 0x1;
export const BPF_F_RDONLY = 0x8;
export const BPF_F_WRONLY = 0x10;
export const BPF_F_MMAPABLE = 0x400;
export const BPF_F_SEGV_ON_FAULT = 0x20000;
