/** The capture that comes with ktstr: a guest of Debian's sid with a sched_ext scheduler at work (`bun run lab sample`). */
import path from "../sample/sid.vmcore.zst" with { type: "file" };

export default path;
