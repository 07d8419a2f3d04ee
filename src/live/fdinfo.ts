/** Reads the facts of a BPF object that only `/proc/self/fdinfo/N` shows: memlock, frozen, owner. */
const LINES = {
  memlock: "\nmemlock:\t",
  frozen: "\nfrozen:\t",
  owner_prog_type: "\nowner_prog_type:\t",
  owner_jited: "\nowner_jited:\t",
} as const;

/** The digits of a u64. */
const MAX_DIGITS = 20;

/** Returns the number after a key, or undefined (kernel/bpf/syscall.c, `bpf_map_show_fdinfo` and similar). */
export function fdInfoNumber(fdInfo: string, key: keyof typeof LINES): number | undefined {
  const line = LINES[key];
  const at = fdInfo.indexOf(line);
  if (at < 0) return undefined;
  return Number.parseInt(fdInfo.slice(at + line.length, at + line.length + MAX_DIGITS), 10);
}
