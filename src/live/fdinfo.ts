/** What only `/proc/self/fdinfo/N` tells of a BPF object: what it costs, whether it is frozen, what owns it. */
type FdInfoKey =
  | "memlock"
  | "frozen"
  | "owner_prog_type"
  | "owner_jited"
  | "map_id"
  | "prog_id"
  | "link_id"
  | "btf_id";

/** The number behind a key; undefined: there is none (kernel/bpf/syscall.c, `bpf_map_show_fdinfo` and its like). */
export function fdInfoNumber(fdInfo: string, key: FdInfoKey): number | undefined {
  const at = fdInfo.indexOf(`\n${key}:`);
  return at < 0 ? undefined : Number.parseInt(fdInfo.slice(at + key.length + 2, at + key.length + 24), 10);
}
