import type { WalkEnd } from "../../state.ts";
import type { GuestKernel } from "../kernel.ts";
import { place, ptr, struct, u8 } from "../../btf/struct.ts";
const IDR = struct("idr", { xa_head: { ...ptr, paths: ["idr_rt.xa_head"] } });
const NODE = struct("xa_node", { shift: u8, slots: place });
export function* idrEntries(
  kernel: GuestKernel,
  symbol: string,
): Generator<{ readonly id: number; readonly hi: number; readonly lo: number }, WalkEnd> {
  const { memory } = kernel;
  const idr = IDR.resolve(kernel.btf);
  const node = NODE.resolve(kernel.btf);
  const root = kernel.symbol(symbol)!;
  const head = memory.pointer(root.hi, root.lo, idr.xa_head, symbol);
  function* walk(hi: number, lo: number, base: number): Generator<{ id: number; hi: number; lo: number }> {
    if ((hi | lo) === 0) return;
    if ((lo & 3) !== 2) {
      yield { id: base, hi, lo };
      return;
    }
    const shift = memory.u8(hi, lo, node.shift - 2, "xa_node");
    for (let slot = 0; slot < 64; slot++) {
      const next = memory.pointer(hi, lo, node.slots - 2 + 8 * slot, "slot");
      yield* walk(next.hi, next.lo, base + slot * 2 ** shift);
    }
  }
  yield* walk(head.hi, head.lo, 0);
  return { complete: true, stopped: "", skipped: new Map() };
}
