/** What only `/proc/self/fdinfo/N` tells of a BPF object: what it costs, whether it is frozen, what owns it. */
import type { Fd } from "../ffi.ts";
import type { Sys } from "./sys.ts";

const KEYS = [
  "memlock",
  "frozen",
  "owner_prog_type",
  "owner_jited",
  "map_id",
  "prog_id",
  "link_id",
  "btf_id",
] as const;

export type FdInfoKey = (typeof KEYS)[number];

/** The numbers that are there, by key (kernel/bpf/syscall.c, `bpf_map_show_fdinfo` and its like). */
export function readFdInfo(sys: Sys, fd: Fd): ReadonlyMap<FdInfoKey, number> {
  const numbers = new Map<FdInfoKey, number>();
  const bytes = sys.readFdInfo(fd.number);
  if (bytes === undefined) return numbers;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  for (const key of KEYS) {
    const at = text.indexOf(`\n${key}:`);
    if (at >= 0) numbers.set(key, Number.parseInt(text.slice(at + key.length + 2, at + key.length + 24), 10));
  }
  return numbers;
}
