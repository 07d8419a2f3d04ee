/**
 * bpf(2): commands, the members of `union bpf_attr`, and the info structs (`include/uapi/linux/bpf.h`). The layouts have only
 * the fields that ktstr uses.
 */
import { bytes, type Layout, layout, u8, u32, u64 } from "./layout.ts";
import { BPF_OBJ_NAME_LEN } from "./names.ts";

/** `enum bpf_cmd`. */
export const COMMANDS = {
  BPF_MAP_CREATE: 0,
  BPF_MAP_LOOKUP_ELEM: 1,
  BPF_MAP_UPDATE_ELEM: 2,
  BPF_MAP_DELETE_ELEM: 3,
  BPF_MAP_GET_NEXT_KEY: 4,
  BPF_PROG_LOAD: 5,
  BPF_OBJ_PIN: 6,
  BPF_OBJ_GET: 7,
  BPF_PROG_TEST_RUN: 10,
  BPF_PROG_GET_NEXT_ID: 11,
  BPF_MAP_GET_NEXT_ID: 12,
  BPF_PROG_GET_FD_BY_ID: 13,
  BPF_MAP_GET_FD_BY_ID: 14,
  BPF_OBJ_GET_INFO_BY_FD: 15,
  BPF_PROG_QUERY: 16,
  BPF_RAW_TRACEPOINT_OPEN: 17,
  BPF_BTF_LOAD: 18,
  BPF_BTF_GET_FD_BY_ID: 19,
  BPF_TASK_FD_QUERY: 20,
  BPF_MAP_FREEZE: 22,
  BPF_BTF_GET_NEXT_ID: 23,
  BPF_MAP_LOOKUP_BATCH: 24,
  BPF_LINK_CREATE: 28,
  BPF_LINK_UPDATE: 29,
  BPF_LINK_GET_FD_BY_ID: 30,
  BPF_LINK_GET_NEXT_ID: 31,
  BPF_ENABLE_STATS: 32,
  BPF_PROG_BIND_MAP: 35,
} as const;

export type BpfCommand = keyof typeof COMMANDS;

/** `enum bpf_stats_type`. */
export const BPF_STATS_RUN_TIME = 0;

/** The member for `BPF_MAP_*_ELEM` and `BPF_MAP_GET_NEXT_KEY`: 32 bytes. `next_key` and `value` have the same offset. */
export const ELEMENT_ATTR: Layout<"map_fd" | "key" | "value" | "flags"> = layout("union bpf_attr", 32, {
  map_fd: u32(0),
  key: u64(8),
  value: u64(16),
  flags: u64(24),
});

/** The member for `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`: 12 bytes. The id and `start_id` have the same offset. */
export const ID_ATTR: Layout<"start_id" | "next_id" | "open_flags"> = layout("union bpf_attr", 12, {
  start_id: u32(0),
  next_id: u32(4),
  open_flags: u32(8),
});

/** The member for `BPF_OBJ_GET_INFO_BY_FD`: 16 bytes. */
export const INFO_ATTR: Layout<"bpf_fd" | "info_len" | "info"> = layout("union bpf_attr.info", 16, {
  bpf_fd: u32(0),
  info_len: u32(4),
  info: u64(8),
});

/** The member for `BPF_MAP_LOOKUP_BATCH`: 56 bytes. */
export const BATCH_ATTR: Layout<
  "in_batch" | "out_batch" | "keys" | "values" | "count" | "map_fd" | "elem_flags" | "flags"
> = layout("union bpf_attr.batch", 56, {
  in_batch: u64(0),
  out_batch: u64(8),
  keys: u64(16),
  values: u64(24),
  count: u32(32),
  map_fd: u32(36),
  elem_flags: u64(40),
  flags: u64(48),
});

/** The member for `BPF_PROG_QUERY` including `revision`, which the kernel writes since 6.6: 64 bytes. */
export const QUERY_ATTR: Layout<
  | "target_fd"
  | "attach_type"
  | "query_flags"
  | "attach_flags"
  | "prog_ids"
  | "prog_cnt"
  | "prog_attach_flags"
  | "link_ids"
  | "link_attach_flags"
  | "revision"
> = layout("union bpf_attr.query", 64, {
  target_fd: u32(0),
  attach_type: u32(4),
  query_flags: u32(8),
  attach_flags: u32(12),
  prog_ids: u64(16),
  prog_cnt: u32(24),
  prog_attach_flags: u64(32),
  link_ids: u64(40),
  link_attach_flags: u64(48),
  revision: u64(56),
});

export const BPF_F_QUERY_EFFECTIVE = 1;

/** The member for `BPF_TASK_FD_QUERY`: 48 bytes. */
export const FD_QUERY_ATTR: Layout<
  "pid" | "fd" | "flags" | "buf_len" | "buf" | "prog_id" | "fd_type" | "probe_offset" | "probe_addr"
> = layout("union bpf_attr.task_fd_query", 48, {
  pid: u32(0),
  fd: u32(4),
  flags: u32(8),
  buf_len: u32(12),
  buf: u64(16),
  prog_id: u32(24),
  fd_type: u32(28),
  probe_offset: u64(32),
  probe_addr: u64(40),
});

/** The member for `BPF_LINK_UPDATE`: 16 bytes. */
export const LINK_UPDATE_ATTR: Layout<"link_fd" | "new_prog_fd" | "flags" | "old_prog_fd"> = layout(
  "union bpf_attr.link_update",
  16,
  { link_fd: u32(0), new_prog_fd: u32(4), flags: u32(8), old_prog_fd: u32(12) },
);

/** The member for `BPF_PROG_BIND_MAP`: 12 bytes. */
export const BIND_MAP_ATTR: Layout<"prog_fd" | "map_fd" | "flags"> = layout(
  "union bpf_attr.prog_bind_map",
  12,
  {
    prog_fd: u32(0),
    map_fd: u32(4),
    flags: u32(8),
  },
);

/** The first 16 bytes of the member for `BPF_OBJ_GET` and `BPF_OBJ_PIN`. */
export const OBJ_ATTR: Layout<"pathname" | "bpf_fd" | "file_flags"> = layout("union bpf_attr", 16, {
  pathname: u64(0),
  bpf_fd: u32(8),
  file_flags: u32(12),
});

/** `bpf_attr.file_flags`: the descriptor does not permit writes to the map. */
export const BPF_F_RDONLY = 8;

/** The member for `BPF_ENABLE_STATS`: 4 bytes. */
export const ENABLE_STATS_ATTR: Layout<"type"> = layout("union bpf_attr.enable_stats", 4, { type: u32(0) });

/** The member for `BPF_MAP_CREATE`, up to `value_type_btf_obj_fd` (since 6.9): 80 bytes. */
export const MAP_CREATE_ATTR: Layout<
  | "map_type"
  | "key_size"
  | "value_size"
  | "max_entries"
  | "map_flags"
  | "inner_map_fd"
  | "map_name"
  | "btf_fd"
  | "btf_key_type_id"
  | "btf_value_type_id"
  | "btf_vmlinux_value_type_id"
  | "map_extra"
  | "value_type_btf_obj_fd"
> = layout("union bpf_attr", 80, {
  map_type: u32(0),
  key_size: u32(4),
  value_size: u32(8),
  max_entries: u32(12),
  map_flags: u32(16),
  inner_map_fd: u32(20),
  map_name: bytes(28, BPF_OBJ_NAME_LEN),
  btf_fd: u32(48),
  btf_key_type_id: u32(52),
  btf_value_type_id: u32(56),
  btf_vmlinux_value_type_id: u32(60),
  map_extra: u64(64),
  value_type_btf_obj_fd: u32(72),
});

/** The member for `BPF_BTF_LOAD` up to `btf_log_level`: 28 bytes. */
export const BTF_LOAD_ATTR: Layout<"btf" | "btf_log_buf" | "btf_size" | "btf_log_size" | "btf_log_level"> =
  layout("union bpf_attr", 28, {
    btf: u64(0),
    btf_log_buf: u64(8),
    btf_size: u32(16),
    btf_log_size: u32(20),
    btf_log_level: u32(24),
  });

/** The member for `BPF_PROG_LOAD` up to `attach_btf_obj_fd`: 116 bytes, padded to 120. */
export const PROG_LOAD_ATTR: Layout<
  | "prog_type"
  | "insn_cnt"
  | "insns"
  | "license"
  | "log_level"
  | "log_size"
  | "log_buf"
  | "prog_flags"
  | "prog_name"
  | "expected_attach_type"
  | "prog_btf_fd"
  | "attach_btf_id"
> = layout("union bpf_attr", 120, {
  prog_type: u32(0),
  insn_cnt: u32(4),
  insns: u64(8),
  license: u64(16),
  log_level: u32(24),
  log_size: u32(28),
  log_buf: u64(32),
  prog_flags: u32(44),
  prog_name: bytes(48, BPF_OBJ_NAME_LEN),
  expected_attach_type: u32(68),
  prog_btf_fd: u32(72),
  attach_btf_id: u32(108),
});

/** The member for `BPF_PROG_TEST_RUN`: 76 bytes, padded to 80. */
export const TEST_RUN_ATTR: Layout<
  | "prog_fd"
  | "retval"
  | "data_size_in"
  | "data_size_out"
  | "data_in"
  | "data_out"
  | "repeat"
  | "ctx_size_in"
  | "ctx_in"
> = layout("union bpf_attr.test", 80, {
  prog_fd: u32(0),
  retval: u32(4),
  data_size_in: u32(8),
  data_size_out: u32(12),
  data_in: u64(16),
  data_out: u64(24),
  repeat: u32(32),
  ctx_size_in: u32(40),
  ctx_in: u64(48),
});

/** The first 88 bytes of `struct bpf_map_info`, up to `map_extra` (5.16). Older kernels fill fewer bytes. */
export const MAP_INFO: Layout<
  | "type"
  | "id"
  | "key_size"
  | "value_size"
  | "max_entries"
  | "map_flags"
  | "name"
  | "ifindex"
  | "btf_vmlinux_value_type_id"
  | "netns_dev"
  | "netns_ino"
  | "btf_id"
  | "btf_key_type_id"
  | "btf_value_type_id"
  | "btf_vmlinux_id"
  | "map_extra"
> = layout("struct bpf_map_info", 88, {
  type: u32(0),
  id: u32(4),
  key_size: u32(8),
  value_size: u32(12),
  max_entries: u32(16),
  map_flags: u32(20),
  name: bytes(24, BPF_OBJ_NAME_LEN),
  ifindex: u32(40),
  btf_vmlinux_value_type_id: u32(44),
  netns_dev: u64(48),
  netns_ino: u64(56),
  btf_id: u32(64),
  btf_key_type_id: u32(68),
  btf_value_type_id: u32(72),
  btf_vmlinux_id: u32(76),
  map_extra: u64(80),
});

/** The first 228 bytes of `struct bpf_prog_info`, up to `attach_btf_id` (5.19), padded to 232. */
export const PROG_INFO: Layout<
  | "type"
  | "id"
  | "tag"
  | "jited_prog_len"
  | "xlated_prog_len"
  | "jited_prog_insns"
  | "xlated_prog_insns"
  | "load_time"
  | "created_by_uid"
  | "nr_map_ids"
  | "map_ids"
  | "name"
  | "ifindex"
  | "gpl_compatible"
  | "netns_dev"
  | "netns_ino"
  | "nr_jited_ksyms"
  | "nr_jited_func_lens"
  | "jited_ksyms"
  | "jited_func_lens"
  | "btf_id"
  | "func_info_rec_size"
  | "func_info"
  | "nr_func_info"
  | "nr_line_info"
  | "line_info"
  | "line_info_rec_size"
  | "jited_line_info"
  | "nr_jited_line_info"
  | "jited_line_info_rec_size"
  | "run_time_ns"
  | "run_cnt"
  | "recursion_misses"
  | "verified_insns"
  | "attach_btf_obj_id"
  | "attach_btf_id"
> = layout("struct bpf_prog_info", 232, {
  type: u32(0),
  id: u32(4),
  tag: bytes(8, 8),
  jited_prog_len: u32(16),
  xlated_prog_len: u32(20),
  jited_prog_insns: u64(24),
  xlated_prog_insns: u64(32),
  load_time: u64(40),
  created_by_uid: u32(48),
  nr_map_ids: u32(52),
  map_ids: u64(56),
  name: bytes(64, BPF_OBJ_NAME_LEN),
  ifindex: u32(80),
  // The lowest bit of the u32 after ifindex. C has no offset for a bit-field.
  gpl_compatible: u8(84),
  netns_dev: u64(88),
  netns_ino: u64(96),
  nr_jited_ksyms: u32(104),
  nr_jited_func_lens: u32(108),
  jited_ksyms: u64(112),
  jited_func_lens: u64(120),
  btf_id: u32(128),
  func_info_rec_size: u32(132),
  func_info: u64(136),
  nr_func_info: u32(144),
  nr_line_info: u32(148),
  line_info: u64(152),
  jited_line_info: u64(160),
  nr_jited_line_info: u32(168),
  line_info_rec_size: u32(172),
  jited_line_info_rec_size: u32(176),
  run_time_ns: u64(192),
  run_cnt: u64(200),
  recursion_misses: u64(208),
  verified_insns: u32(216),
  attach_btf_obj_id: u32(220),
  attach_btf_id: u32(224),
});

/** `struct bpf_btf_info`: 32 bytes. */
export const BTF_INFO: Layout<"btf" | "btf_size" | "id" | "name" | "name_len" | "kernel_btf"> = layout(
  "struct bpf_btf_info",
  32,
  { btf: u64(0), btf_size: u32(8), id: u32(12), name: u64(16), name_len: u32(24), kernel_btf: u32(28) },
);

/** `struct bpf_link_info`: the fields of every type. The arms start at byte 16 (`src/uapi/link.ts`). */
export const LINK_INFO: Layout<"type" | "id" | "prog_id"> = layout("struct bpf_link_info", 64, {
  type: u32(0),
  id: u32(4),
  prog_id: u32(8),
});
