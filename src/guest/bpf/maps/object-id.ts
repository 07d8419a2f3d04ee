/** Converts pointers to BPF objects to ids, which user space sees as values. */
import { ptr, struct, u32 } from "../../../btf/struct.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";

const MAP = struct("bpf_map", { id: u32 });
const PROG = struct("bpf_prog", { aux: ptr });
const AUX = struct("bpf_prog_aux", { id: u32 });

/** Reads an id from a pointer's words; -1 if it is not in the image. */
export type IdReader = (hi: number, lo: number) => number;

/** kernel/bpf/map_in_map.c, `bpf_map_fd_sys_lookup_elem`. */
export function mapIdReader({ memory, btf }: GuestKernel): IdReader {
  const { id } = MAP.resolve(btf);
  return (hi, lo) => {
    const at = memory.locate(hi, lo, id, 4);
    return at < 0 ? -1 : memory.view.getUint32(at, true);
  };
}

/** kernel/bpf/arraymap.c, `prog_fd_array_sys_lookup_elem`. */
export function progIdReader({ memory, btf }: GuestKernel): IdReader {
  const { aux } = PROG.resolve(btf);
  const { id } = AUX.resolve(btf);
  return (hi, lo) => {
    const at = memory.locate(hi, lo, aux, 8);
    if (at < 0) return -1;
    const idAt = memory.locate(memory.view.getInt32(at + 4, true), memory.view.getInt32(at, true), id, 4);
    return idAt < 0 ? -1 : memory.view.getUint32(idAt, true);
  };
}
