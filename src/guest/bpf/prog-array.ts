/** Reads `struct bpf_prog_array`: programs that run in sequence, up to a NULL. */
import { place, ptr, struct } from "../../btf/struct.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { StructAt } from "../kernel/struct-at.ts";
import { isNull } from "../memory/pointer.ts";
import { progId } from "./progs.ts";

const PROG_ARRAY = struct("bpf_prog_array", { items: place });
const ARRAY_ITEM = struct("bpf_prog_array_item", { prog: ptr });
const PROG = struct("bpf_prog", { aux: ptr });

/** Limit: BPF_CGROUP_MAX_PROGS is 64, and a cgroup's effective array includes the programs of all ancestors. */
const MAX_PROGS = 4096;

/** Returns the programs' ids; empty for NULL. Throws `GuestFault`. */
export function progArrayIds(kernel: GuestKernel, array: StructAt): number[] {
  if (array.isNull) return [];
  const { items } = PROG_ARRAY.resolve(kernel.btf);
  const item = ARRAY_ITEM.resolve(kernel.btf);
  const ids: number[] = [];
  for (let index = 0; index < MAX_PROGS; index++) {
    const prog = array.follow(items + index * item.sizeof + item.prog, "items.prog");
    if (prog.isNull) break;
    // `dummy_bpf_prog` replaces a detached program if there was no memory for a shorter array.
    if (isNull(prog.pointer(PROG.resolve(kernel.btf).aux, "aux"))) continue;
    ids.push(progId(kernel, prog.at, "bpf_prog_array.items.prog"));
  }
  return ids;
}
