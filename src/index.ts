/**
 * ktstr as a library:
 *
 *     import { openLive, view } from "ktstr";
 *     using live = view(openLive());
 *     live.map("scx_simple.bss").global("nr_enqueued"); // 42
 *
 * `openLive` gives the state of the running kernel; `view` shows any state as typed plain data.
 */

export type { PlainValue } from "./btf/value.ts";
export * from "./errors.ts";
export { type LiveOptions, type LiveState, openLive } from "./live/live.ts";
export { MapFreedError, NoSuchMapError, type PinnedMap, pinByName } from "./live/pin.ts";
export { enableStats } from "./live/stats.ts";
export { type ElementOptions, MapView, type PlainElement, StateView, view } from "./report/view.ts";
export type * from "./state.ts";
export * as names from "./uapi/names.ts";
