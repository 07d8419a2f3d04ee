/**
 * ktstr as a library:
 *
 *     import { openGuest, view } from "ktstr";
 *     using guest = view(openGuest({ memory: "mem" }));
 *     guest.map("scx_simple.bss").global("nr_enqueued"); // 42
 *
 * `openLive` and `openGuest` return the state of a kernel. `view` converts it to typed plain data.
 */

export type { PlainValue } from "./btf/value.ts";
export * from "./errors.ts";
export { type GuestState, openGuest } from "./guest/guest.ts";
export type { GuestOptions } from "./guest/guest-maps.ts";
export type { MemorySource } from "./guest/image/image.ts";
export type { Finding } from "./guest/kernel/kernel.ts";
export { findVmlinux } from "./guest/kernel/vmlinux.ts";
export type { KernelLog, LogRecord } from "./kernel-log.ts";
export { type LiveOptions, type LiveState, openLive } from "./live/live.ts";
export { MapFreedError, NoSuchMapError, type PinnedMap, pinByName } from "./live/pin.ts";
export { enableStats } from "./live/stats.ts";
export { openRecord, type RecordFile } from "./report/record-read.ts";
export { type ElementOptions, MapView, type PlainElement, StateView, view } from "./report/view.ts";
export type * from "./round.ts";
export type * from "./sched-state.ts";
export type * from "./state.ts";
export type { StackFrame, TaskStack } from "./task-stack.ts";
export * as names from "./uapi/names.ts";
