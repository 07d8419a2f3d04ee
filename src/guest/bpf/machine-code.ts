/** Reads a program's machine code: `bpf_prog_get_info_by_fd` (kernel/bpf/syscall.c) copies `jited_len` bytes at `bpf_func`. */
import { ptr, struct, u8, u32 } from "../../btf/struct.ts";
import type { MachineFunction } from "../../prog-code.ts";
import type { ProgInfo } from "../../state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { fromBigInt, toBigInt } from "../memory/pointer.ts";
import { bounded, copy, MAX_SUBPROGS } from "./prog-code.ts";

const PROG = struct("bpf_prog", { jited_len: u32, aux: ptr, bpf_func: ptr });
const AUX = struct("bpf_prog_aux", { func_cnt: u32, func: ptr, offload_requested: u8 });

/** Limit for all functions together: far above the code for a million instructions, the verifier's limit. */
const MAX_BYTES = 2 ** 27;

/** Empty if the program is not jited or is offloaded. Throws `GuestFault`, `KtstrError`. */
export function readMachineCode(kernel: GuestKernel, prog: ProgInfo): MachineFunction[] {
  const layout = PROG.resolve(kernel.btf);
  const auxLayout = AUX.resolve(kernel.btf);
  const own = new StructAt(kernel.memory, fromBigInt(prog.address ?? 0n), "bpf_prog.");
  const aux = own.follow(layout.aux, "aux");
  if (aux.u8(auxLayout.offload_requested, "offload_requested") !== 0) return [];
  const count = bounded("func_cnt", aux.u32(auxLayout.func_cnt, "func_cnt"), MAX_SUBPROGS);
  const list = count > 0 ? aux.follow(auxLayout.func, "func") : undefined;
  const functions = Array.from({ length: count }, (_, index) => list!.follow(index * 8, `[${index}]`));
  let total = 0;
  const code = (count > 0 ? functions : [own]).map((one) => {
    const length = one.u32(layout.jited_len, "jited_len");
    total = bounded("jited_len", total + length, MAX_BYTES);
    const at = one.pointer(layout.bpf_func, "bpf_func");
    return { address: toBigInt(at.hi, at.lo), bytes: copy(kernel, at, 0, length, "bpf_prog.bpf_func") };
  });
  return total === 0 ? [] : code;
}
