/** Walks the kernel's lists: `struct list_head`. */
import { ptr, struct } from "../../btf/struct.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";
import type { GuestKernel } from "./kernel.ts";

const LIST_HEAD = struct("list_head", { next: ptr });

/** PID_MAX_LIMIT: the longest of these lists contains all tasks. */
const MAX_TASKS = 4 * 1024 * 1024;

/**
 * `list_for_each_entry`: yields the structs whose `struct list_head` is at offset `member`. If a list does not return to its
 * head, the walk stops within three times its length, or after PID_MAX_LIMIT steps, and calls `onFault`.
 */
export function* listOf(
  { memory, btf }: GuestKernel,
  head: Pointer,
  member: number,
  path: string,
  onFault: (error: unknown) => void,
): Generator<Pointer> {
  const { next } = LIST_HEAD.resolve(btf);
  let node = head;
  // Brent's algorithm detects a cycle without the head: the mark moves at every power of two.
  let mark = head;
  for (let step = 0; step < MAX_TASKS; step++) {
    try {
      node = memory.pointer(node.hi, node.lo, next, path);
    } catch (error) {
      onFault(error);
      return;
    }
    if (isNull(node) || (node.hi === head.hi && node.lo === head.lo)) return;
    if (node.hi === mark.hi && node.lo === mark.lo) break;
    if ((step & (step - 1)) === 0) mark = node;
    yield add(node, -member);
  }
  onFault(new Error(`${path}: the list does not return to its head`));
}
