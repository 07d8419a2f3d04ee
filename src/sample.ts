/** The capture that comes with ktstr: a guest of Debian's sid whose sched_ext scheduler has stalled (`bun run lab sample`). */
import { dirname, resolve } from "node:path";
import file from "../sample/sid.vmcore.zst" with { type: "file" };

/** In the packed command (tools/pack.ts), the path is relative to the command; otherwise it is absolute. */
const path: string = resolve(dirname(Bun.main), file);
export default path;
