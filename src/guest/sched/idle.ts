/** Reads the idle CPU masks that sched_ext maintains (kernel/sched/ext/idle.c; before 7.2 kernel/sched/ext_idle.c). */
import { BTF_KIND } from "../../uapi/btf.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";
import { cpusOf } from "./cpu-mask.ts";
import { isKeyOn } from "./static-key.ts";

/** MAX_NUMNODES with the largest CONFIG_NODES_SHIFT. */
const MAX_NODES = 1024;

/**
 * Returns the CPUs that `scx_bpf_pick_idle_cpu()` can pick, ascending: those of `scx_idle_global_masks.cpu` (6.12:
 * `idle_masks.cpu`), or with SCX_OPS_BUILTIN_IDLE_PER_NODE those of every node's `scx_idle_node_masks[node]->cpu`. Undefined
 * if the scheduler tracks idle CPUs itself, or if this kernel has none of these symbols. Throws `GuestFault`.
 */
export function readIdleCpus(kernel: GuestKernel): number[] | undefined {
  const { memory, symbols } = kernel;
  if (isKeyOn(kernel, "scx_builtin_idle_enabled") !== true) return undefined;
  const global = symbols.address("scx_idle_global_masks") ?? symbols.address("idle_masks");
  if (isKeyOn(kernel, "scx_builtin_idle_per_node") !== true)
    return global === undefined ? undefined : firstMask(kernel, global);
  const variable = symbols.address("scx_idle_node_masks");
  if (variable === undefined) return undefined;
  const array = memory.pointer(variable.hi, variable.lo, 0, "scx_idle_node_masks");
  const ids = symbols.address("nr_node_ids");
  const count = ids === undefined ? 1 : memory.u32(ids.hi, ids.lo, 0, "nr_node_ids");
  const found: number[] = [];
  for (let node = 0; node < Math.min(count, MAX_NODES); node++) {
    const one = memory.pointer(array.hi, array.lo, 8 * node, `scx_idle_node_masks[${node}]`);
    if (!isNull(one)) found.push(...firstMask(kernel, one));
  }
  return found.sort((a, b) => a - b);
}

/**
 * `.cpu`, the first of the two `cpumask_var_t` of `struct scx_idle_cpus` (`struct idle_cpus` until 7.1; 6.12's has no
 * name): a pointer with CONFIG_CPUMASK_OFFSTACK, else the mask itself.
 */
function firstMask(kernel: GuestKernel, { hi, lo }: Pointer): number[] {
  const { memory, btf } = kernel;
  const type = btf.find("cpumask_var_t", BTF_KIND.TYPEDEF);
  const isPointer = type !== undefined && btf.kind(btf.resolve(type)) === BTF_KIND.PTR;
  const mask = isPointer ? memory.pointer(hi, lo, 0, "scx_idle_cpus.cpu") : { hi, lo };
  return cpusOf(kernel, mask, "scx_idle_cpus.cpu");
}
