/** ktstr as a library: `import { openLive, openGuest } from "ktstr"`. */
export * from "./errors.ts";
export { type GuestOptions, type GuestState, openGuest } from "./guest/guest.ts";
export type { MemorySource } from "./guest/image.ts";
export type { Finding } from "./guest/kernel.ts";
export { findVmlinux } from "./guest/vmlinux.ts";
export { type LiveOptions, type LiveState, openLive } from "./live/live.ts";
export { MapFreedError, NoSuchMapError, type PinnedMap, pinByName } from "./live/pin.ts";
export { enableStats } from "./live/stats.ts";
export type * from "./state.ts";
export * as names from "./uapi/names.ts";
