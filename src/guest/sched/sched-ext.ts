/** Reads sched_ext's state and the scheduler's name, as in `/sys/kernel/sched_ext/state` and `root/ops`. */
import { at, bytes, i32, struct } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { SchedExtState } from "../../scheduler.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import { cutAtNul } from "../../uapi/layout.ts";
import { enumValues } from "../kernel/enums.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";

const ATOMIC = struct("atomic_t", { counter: i32 });
/** SCX_OPS_NAME_LEN. */
const NAME_BYTES = 128;
/** Since 6.16 `scx_root` points to the root scheduler. Before, its operations are in `scx_ops`. */
const SCX_SCHED = struct("scx_sched", { name: at(bytes(NAME_BYTES), "ops.name") });
const SCX_OPS = struct("sched_ext_ops", { name: bytes(NAME_BYTES) });

/** Fields are "" if this kernel does not have them or if they cannot be read. */
export function readSchedExtState(kernel: GuestKernel): SchedExtState {
  return { state: orEmpty(() => stateOf(kernel)), opsName: orEmpty(() => opsNameOf(kernel)) };
}

function orEmpty(read: () => string): string {
  try {
    return read();
  } catch (error) {
    if (error instanceof KtstrError) return "";
    throw error;
  }
}

/** `scx_enable_state_var`, until 6.15 `scx_ops_enable_state_var`; undefined if the kernel has no sched_ext. */
export const enableStateAt = ({ symbols }: GuestKernel): Pointer | undefined =>
  symbols.address("scx_enable_state_var") ?? symbols.address("scx_ops_enable_state_var");

/** Throws `KtstrError` if the kernel has no sched_ext. */
export function requireSchedExt(kernel: GuestKernel): void {
  if (enableStateAt(kernel) === undefined)
    throw new KtstrError(
      "read the state of sched_ext: this kernel does not have it (CONFIG_SCHED_CLASS_EXT, since 6.12)",
    );
}

/** `enum scx_enable_state`, until 6.15 `scx_ops_enable_state`: SCX_ENABLED, SCX_OPS_ENABLED -> "enabled". */
function stateOf(kernel: GuestKernel): string {
  const { memory, btf } = kernel;
  const variable = enableStateAt(kernel);
  const type = btf.find("scx_enable_state", BTF_KIND.ENUM) ?? btf.find("scx_ops_enable_state", BTF_KIND.ENUM);
  if (variable === undefined || type === undefined) return "";
  const state = memory.i32(variable.hi, variable.lo, ATOMIC.resolve(btf).counter, "scx_enable_state_var");
  for (const [name, value] of enumValues(btf, type))
    if (value === state) return name.replace(/^SCX_(OPS_)?/, "").toLowerCase();
  return "";
}

function opsNameOf({ memory, btf, symbols }: GuestKernel): string {
  const text = ({ hi, lo }: Pointer, offset: number, path: string): string =>
    Buffer.from(cutAtNul(memory.copy(hi, lo, offset, NAME_BYTES, path))).toString("utf8");
  const root = symbols.address("scx_root");
  if (root !== undefined) {
    const scheduler = memory.pointer(root.hi, root.lo, 0, "scx_root");
    return isNull(scheduler) ? "" : text(scheduler, SCX_SCHED.resolve(btf).name, "scx_root->ops.name");
  }
  const ops = symbols.address("scx_ops");
  return ops === undefined ? "" : text(ops, SCX_OPS.resolve(btf).name, "scx_ops.name");
}
