/**
 * The arms (members of the union) of `struct bpf_link_info`: the fields of each link type after the first 16 bytes, under
 * bpftool's key names.
 * Offsets are in bytes from the start of the struct.
 */
import { LinkType } from "./names.ts";

/** How a field is read and printed. */
export type LinkFieldKind =
  | "u32"
  | "i32"
  | "u64"
  | "attach_type" // enum bpf_attach_type, printed by name
  | "ifindex" // printed with the name of the device
  | "string"; // a pointer to a buffer that the kernel fills; its length is the u32 at `lengthOffset`

export interface LinkField {
  readonly key: string;
  readonly kind: LinkFieldKind;
  readonly offset: number;
  readonly lengthOffset?: number;
}

const field = (key: string, kind: LinkFieldKind, offset: number): LinkField => ({ key, kind, offset });
const text = (key: string, offset: number, lengthOffset: number): LinkField => ({
  key,
  kind: "string",
  offset,
  lengthOffset,
});

/** Arms that the link type alone selects. */
export const LINK_ARMS: Readonly<Record<number, readonly LinkField[]>> = {
  [LinkType.raw_tracepoint]: [text("tp_name", 16, 24), field("cookie", "u64", 32)],
  [LinkType.tracing]: [
    field("attach_type", "attach_type", 16),
    field("target_obj_id", "u32", 20),
    field("target_btf_id", "u32", 24),
    field("cookie", "u64", 32),
  ],
  [LinkType.cgroup]: [field("cgroup_id", "u64", 16), field("attach_type", "attach_type", 24)],
  [LinkType.iter]: [text("target_name", 16, 24)],
  [LinkType.netns]: [field("netns_ino", "u32", 16), field("attach_type", "attach_type", 20)],
  [LinkType.xdp]: [field("ifindex", "ifindex", 16)],
  [LinkType.struct_ops]: [field("map_id", "u32", 16)],
  [LinkType.netfilter]: [
    field("pf", "u32", 16),
    field("hook", "u32", 20),
    field("prio", "i32", 24),
    field("flags", "u32", 28),
  ],
  [LinkType.tcx]: [field("ifindex", "ifindex", 16), field("attach_type", "attach_type", 20)],
  [LinkType.netkit]: [field("ifindex", "ifindex", 16), field("attach_type", "attach_type", 20)],
  [LinkType.sockmap]: [field("map_id", "u32", 16), field("attach_type", "attach_type", 20)],
};

const UPROBE_ARM: readonly LinkField[] = [
  text("file", 24, 32),
  field("offset", "u32", 36),
  field("cookie", "u64", 40),
  field("ref_ctr_offset", "u64", 48),
];

/** Arms of a perf_event link by `enum bpf_perf_event_type`, which is the u32 at byte 16. */
export const PERF_EVENT_ARMS: Readonly<Record<number, readonly LinkField[]>> = {
  1: UPROBE_ARM,
  2: UPROBE_ARM,
  3: [
    field("addr", "u64", 40),
    text("func", 24, 32),
    field("offset", "u32", 36),
    field("missed", "u64", 48),
    field("cookie", "u64", 56),
  ],
  4: [
    field("addr", "u64", 40),
    text("func", 24, 32),
    field("offset", "u32", 36),
    field("missed", "u64", 48),
    field("cookie", "u64", 56),
  ],
  5: [text("tracepoint", 24, 32), field("cookie", "u64", 40)],
  6: [field("cookie", "u64", 40)],
};

export const PERF_EVENT_TYPE_OFFSET = 16;
/** `BPF_PERF_EVENT_EVENT`. Its type and config are printed by name. */
export const PERF_EVENT_EVENT = { kind: 6, config: 24, type: 32 } as const;
/** `BPF_PERF_EVENT_URETPROBE` and `BPF_PERF_EVENT_KRETPROBE`. */
export const PERF_EVENT_RETURN_TYPES: readonly number[] = [2, 4];
/** Types whose arms have the `retprobe` key. */
export const PERF_EVENT_PROBE_TYPES: readonly number[] = [1, 2, 3, 4];

/** `struct bpf_link_info.iter` after its name. The name of the target selects the arm. */
export const ITER = { map_id: 28, cgroup_id: 32, order: 40, tid: 32, pid: 36 } as const;

/** `enum bpf_cgroup_iter_order` with bpftool's names. */
export const CGROUP_ITER_ORDERS = [
  "order_unspec",
  "self_only",
  "descendants_pre",
  "descendants_post",
  "ancestors_up",
] as const;

/** `struct bpf_link_info.kprobe_multi`. */
export const KPROBE_MULTI = { addrs: 16, count: 24, flags: 28, missed: 32, cookies: 40 } as const;
/** `struct bpf_link_info.uprobe_multi`. */
export const UPROBE_MULTI = {
  path: 16,
  offsets: 24,
  ref_ctr_offsets: 32,
  cookies: 40,
  path_size: 48,
  count: 52,
  flags: 56,
  pid: 60,
} as const;
/** `BPF_F_KPROBE_MULTI_RETURN` and `BPF_F_UPROBE_MULTI_RETURN`. */
export const MULTI_RETURN = 1;
