/**
 * Finds `linux_banner` (init/version-timestamp.c) in the kernel's image by its text. It has the release and the version of
 * `init_uts_ns`, and is constant: "Linux version RELEASE (BUILDER) (COMPILER) VERSION\n".
 */
import type { PhysicalMemory } from "../image/physical.ts";

export interface Banner {
  readonly physical: number;
  /** As `uname -r` prints it. */
  readonly release: string;
  /** As `uname -v` prints it: "#1 SMP PREEMPT_DYNAMIC ...". */
  readonly version: string;
}

const START = Buffer.from("Linux version ", "latin1");
const MAX_BANNER_BYTES = 512;
/** The log has the text without the line feed. A second constant, for the build, has no number after "#". */
const BANNER = /^Linux version ([\x21-\x7e]{1,64}) \([^\n\0]*\) (#[0-9][\x20-\x7e]{0,63})\n\0/;
const PAGE_BYTES = 4096;

/** Returns the first banner that begins in [from, to), physical addresses; undefined if there is none. */
export function findBanner(memory: PhysicalMemory, from: number, to: number): Banner | undefined {
  const bytes = Buffer.alloc(PAGE_BYTES + MAX_BANNER_BYTES);
  for (let page = from; page < Math.min(to, memory.end); page += PAGE_BYTES) {
    // The copy ends at a page that is not in the image.
    const held = bytes.subarray(0, memory.copyOut(page, bytes));
    for (let at = held.indexOf(START); at >= 0 && at < PAGE_BYTES; at = held.indexOf(START, at + 1)) {
      const found = BANNER.exec(held.toString("latin1", at, at + MAX_BANNER_BYTES));
      if (found !== null) return { physical: page + at, release: found[1]!, version: found[2]! };
    }
  }
  return undefined;
}
