/** Reads static keys: `struct static_key_false`, a branch in the kernel's code that can be switched. */
import { i32, at as path, struct } from "../../btf/struct.ts";
import type { GuestKernel } from "../kernel/kernel.ts";

const STATIC_KEY = struct("static_key", { enabled: path(i32, "enabled.counter") });

/** Returns whether the key with this name is enabled; undefined if there is none. Throws `GuestFault` and `LayoutError`. */
export function isKeyOn({ memory, btf, symbols }: GuestKernel, name: string): boolean | undefined {
  const at = symbols.address(name);
  if (at === undefined) return undefined;
  return memory.i32(at.hi, at.lo, STATIC_KEY.resolve(btf).enabled, name) > 0;
}
