/** ktstr as a library: `import { openLive } from "ktstr"`. */
export * from "./errors.ts";
export { type LiveOptions, type LiveState, openLive } from "./live/live.ts";
export { MapFreedError, NoSuchMapError, type PinnedMap, pinByName } from "./live/pin.ts";
export { enableStats } from "./live/stats.ts";
export type * from "./state.ts";
export * as names from "./uapi/names.ts";
