/** The capture that comes with ktstr: a guest of Debian's sid whose sched_ext scheduler has stalled (`bun run lab sample`). */
import { dirname, resolve } from "node:path";
import file from "../sample/sid.vmcore.zst" with { type: "file" };

/** The packed command (tools/pack.ts) names it from where it lies itself; everything else has its whole path. */
const path: string = resolve(dirname(Bun.main), file);
export default path;
