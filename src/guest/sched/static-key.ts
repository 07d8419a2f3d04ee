/** `struct static_key_false`: a switch in the kernel's code. */
import { i32, at as path, struct } from "../../btf/struct.ts";
import type { GuestKernel } from "../kernel/kernel.ts";

const STATIC_KEY = struct("static_key", { enabled: path(i32, "enabled.counter") });

/** Whether the key of this name is on; undefined if the kernel has none. Throws `GuestFault` and `LayoutError`. */
export function isKeyOn({ memory, btf, symbols }: GuestKernel, name: string): boolean | undefined {
  const at = symbols.address(name);
  if (at === undefined) return undefined;
  return memory.i32(at.hi, at.lo, STATIC_KEY.resolve(btf).enabled, name) > 0;
}
