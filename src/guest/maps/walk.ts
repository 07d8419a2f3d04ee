/** What the walks over maps have in common: how they are bounded, and how they account for what they could not read. */
import type { EntryCursor, MapInfo, WalkEnd } from "../../state.ts";
import type { GuestKernel } from "../kernel.ts";
import type { Pointer } from "../pointer.ts";

/** A map of the guest: its attributes, and where its `struct bpf_map` lies. */
export interface GuestMap {
  readonly info: MapInfo;
  readonly at: Pointer;
}

/** What was seen and could not be read, by reason, and why the walk stopped early. */
export class Account {
  readonly skipped: Map<string, number> = new Map();
  stopped = "";
  #inARow = 0;

  /** Counts an element. True where so many in a row were missing that the rest is not looked at. */
  skip(reason: string): boolean {
    this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
    if (++this.#inARow < MAX_SKIPS_IN_A_ROW) return false;
    if (this.stopped === "")
      this.stopped = `stopped after ${MAX_SKIPS_IN_A_ROW} elements in a row that could not be read (${reason})`;
    return true;
  }

  /** An element was read. */
  seen(): void {
    this.#inARow = 0;
  }

  get end(): WalkEnd {
    return {
      complete: this.stopped === "",
      stopped: this.stopped,
      skipped: this.skipped,
    };
  }
}

/** A page that is not there takes at most 4,096 elements with it; this many mean that the map is not there at all. */
const MAX_SKIPS_IN_A_ROW = 16_384;

/**
 * `count` objects of at least `bytesEach` bytes, as far as the image can hold them: no kernel has more than its memory
 * holds, and what says so was overwritten.
 */
export function boundedCount(
  kernel: GuestKernel,
  count: number,
  bytesEach: number,
  account: Account,
  what: string,
): number {
  let bytes = 0;
  for (const window of kernel.memory.physical.windows) bytes += window.bytes.length;
  const most = Math.floor(bytes / Math.max(bytesEach, 1));
  if (count <= most) return count;
  account.stopped = `stopped after ${most} of ${count} ${what}: the image cannot hold more`;
  return most;
}

export const roundUp8 = (size: number): number => Math.ceil(size / 8) * 8;

/** The u32 at the start of a key. */
export function keyIndex(key: Uint8Array): number {
  return (key[0]! | (key[1]! << 8) | (key[2]! << 16) | (key[3]! << 24)) >>> 0;
}

/** How a cursor's values lie in its buffer. */
export interface Shape {
  readonly keySize: number;
  readonly valueSize: number;
  /** 0: one value for all CPUs. */
  readonly cpuCount: number;
}

export const shapeOf = ({ info }: GuestMap): Shape => ({
  keySize: info.keySize,
  valueSize: info.valueSize,
  cpuCount: 0,
});

/** What the cursors over anything but hash tables share. A kind of map fills in `advance`. */
export abstract class BaseCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly valueStride: number;
  keyBytes: Uint8Array;
  keyOffset = 0;
  valueBytes: Uint8Array;
  valueOffset = 0;
  valueMissing = "";
  readonly account: Account = new Account();
  #ended = false;

  constructor({ keySize, valueSize, cpuCount }: Shape) {
    this.keySize = keySize;
    this.valueSize = valueSize;
    this.cpuCount = cpuCount;
    this.valueStride = cpuCount === 0 ? 0 : roundUp8(valueSize);
    this.keyBytes = EMPTY;
    this.valueBytes = EMPTY;
  }

  /** Moves to the next element and sets what differs; false at the end. */
  protected abstract advance(): boolean;

  next(): boolean {
    if (this.#ended) return false;
    if (this.advance()) return true;
    this.#ended = true;
    return false;
  }

  get end(): WalkEnd {
    return this.account.end;
  }

  [Symbol.dispose](): void {
    this.#ended = true;
  }
}

const EMPTY = new Uint8Array(0);

/** How `IndexCursor`'s reader found an element. */
export type Found = "value" | "hole" | "skipped";

/** A walk over keys 0 to `count` - 1 of a map whose keys are u32 indices. */
export class IndexCursor extends BaseCursor {
  readonly #count: number;
  readonly #keyView: DataView;
  readonly #load: (index: number, cursor: IndexCursor) => Found;
  #index = -1;

  /** `load` sets the value of one index, or `valueMissing`; it counts in `account` what it answers "skipped" to. */
  constructor(shape: Shape, count: number, load: (index: number, cursor: IndexCursor) => Found) {
    super(shape);
    this.keyBytes = new Uint8Array(4);
    this.#keyView = new DataView(this.keyBytes.buffer);
    this.#count = count;
    this.#load = load;
  }

  protected advance(): boolean {
    while (++this.#index < this.#count) {
      this.valueMissing = "";
      const found = this.#load(this.#index, this);
      if (found === "skipped" && this.account.stopped !== "") return false;
      if (found !== "value") continue;
      this.account.seen();
      this.#keyView.setUint32(0, this.#index, true);
      return true;
    }
    return false;
  }
}
