/** Base classes for walks over maps: their limits, and the accounting of elements that could not be read. */
import { LayoutError } from "../../../btf/struct.ts";
import { KtstrError } from "../../../errors.ts";
import {
  type ContentRecord,
  type EntryCursor,
  type MapInfo,
  type Read,
  unreadable,
  type WalkEnd,
} from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { GuestFault } from "../../memory/fault.ts";
import { LOCATE_MAX_BYTES } from "../../memory/memory.ts";
import type { Pointer } from "../../memory/pointer.ts";

/** A map: its attributes, and the address of its `struct bpf_map`. */
export interface GuestMap {
  readonly info: MapInfo;
  readonly at: Pointer;
  /** Whether it is a `struct bpf_offloaded_map`: its elements are in a network card, not in memory. */
  readonly isOffloaded: boolean;
}

/** Counts, by reason, the elements that could not be read, and stores why the walk was stopped early. */
export class Account {
  readonly skipped: Map<string, number> = new Map();
  /** "" while the walk continues, or if it ended normally. */
  stopped = "";
  #inARow = 0;

  /** Counts an element that could not be read. Too many in succession stop the walk. */
  skip(reason: string): "skipped" {
    this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
    if (++this.#inARow >= MAX_SKIPS_IN_A_ROW && this.stopped === "")
      this.stopped = `stopped after ${MAX_SKIPS_IN_A_ROW} elements in a row that could not be read (${reason})`;
    return "skipped";
  }

  /** Records that an element was read. */
  seen(): void {
    this.#inARow = 0;
  }

  get end(): WalkEnd {
    return {
      complete: this.stopped === "" && this.skipped.size === 0,
      stopped: this.stopped,
      skipped: this.skipped,
    };
  }
}

/** Several absent pages in a row: a page of 16 KiB has at most 4,096 elements. */
const MAX_SKIPS_IN_A_ROW = 16_384;

/** Returns the limit on objects of at least `bytesEach` bytes: as many as the machine's memory can hold. */
export function mostObjects({ memory }: GuestKernel, bytesEach: number): number {
  return Math.floor(memory.physical.sizeBytes / Math.max(bytesEach, 1));
}

/** Copies `length` bytes; any length that the image can hold. Throws `GuestFault`. */
export function copyBytes(
  kernel: GuestKernel,
  { hi, lo }: Pointer,
  offset: number,
  length: number,
  path: string,
): Uint8Array {
  const { memory } = kernel;
  if (length <= LOCATE_MAX_BYTES || length > mostObjects(kernel, 1))
    return memory.copy(hi, lo, offset, length, path);
  const bytes = new Uint8Array(length);
  if (memory.copyOut(hi, lo, offset, bytes) < length) throw memory.fault(path);
  return bytes;
}

/** A map whose members are inconsistent. */
export class CorruptMap extends KtstrError {}

/** Calls `read` and converts faults to a result. */
export function attempt<T>(read: () => Read<T>): Read<T> {
  try {
    return read();
  } catch (error) {
    if (error instanceof GuestFault) return unreadable("not-present", error.message);
    if (error instanceof CorruptMap) return unreadable("corrupt", error.message);
    if (error instanceof LayoutError) return unreadable("unsupported", error.message);
    throw error;
  }
}

export const roundUp8 = (size: number): number => Math.ceil(size / 8) * 8;

/** Returns the u32 at the start of a key. */
export function keyIndex(key: Uint8Array): number {
  return (key[0]! | (key[1]! << 8) | (key[2]! << 16) | (key[3]! << 24)) >>> 0;
}

/** The layout of a cursor's values in its buffer. */
export interface Shape {
  readonly keySize: number;
  readonly valueSize: number;
  /** 0 if there is one value for all CPUs. */
  readonly cpuCount: number;
}

export const shapeOf = ({ info }: GuestMap): Shape => ({
  keySize: info.keySize,
  valueSize: info.valueSize,
  cpuCount: 0,
});

/** Base class of the cursors of all maps but hash tables. Subclasses implement `advance`. */
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
  note = "";
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

  /** Moves to the next element and sets the members that change. Returns false at the end. */
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

/**
 * A cursor that reads several elements together and returns them one by one. The keys of a batch are all in `keyBytes`, the
 * values all in `valueBytes`.
 */
export abstract class BatchedCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly valueStride: number;
  keyBytes: Uint8Array = EMPTY;
  keyOffset = 0;
  valueBytes: Uint8Array = EMPTY;
  valueOffset = 0;
  valueMissing = "";
  readonly account: Account = new Account();
  /** The offsets of the keys and values of the current batch. */
  protected keyOffsets: Int32Array;
  protected valueOffsets: Int32Array;
  /** The next element of the batch, and the batch's end; -1 after the walk. */
  protected index = 0;
  protected batchEnd = 0;

  constructor({ keySize, valueSize, cpuCount }: Shape, keyOffsets: Int32Array, valueOffsets: Int32Array) {
    this.keySize = keySize;
    this.valueSize = valueSize;
    this.cpuCount = cpuCount;
    this.valueStride = cpuCount === 0 ? 0 : roundUp8(valueSize);
    this.keyOffsets = keyOffsets;
    this.valueOffsets = valueOffsets;
  }

  /** Reads the next batch: elements `index` to `batchEnd` of the offsets. False at the end; it is not called again. */
  protected abstract fill(): boolean;

  next(): boolean {
    if (this.index >= this.batchEnd && !this.#refill()) return false;
    const index = this.index++;
    this.keyOffset = this.keyOffsets[index]!;
    this.valueOffset = this.valueOffsets[index]!;
    return true;
  }

  #refill(): boolean {
    if (this.batchEnd < 0) return false;
    if (this.fill()) return true;
    this[Symbol.dispose]();
    return false;
  }

  get end(): WalkEnd {
    return this.account.end;
  }

  [Symbol.dispose](): void {
    this.batchEnd = -1;
  }
}

/** Values that have no key. */
export interface Records {
  readonly records: readonly ContentRecord[];
  readonly end: WalkEnd;
}

/** The result of reading an element: it has a value (or a reason for none), it is absent, or it was counted as skipped. */
export type Found = "value" | "hole" | "skipped";

/** A walk over keys 0 to `count` - 1 of a map whose keys are u32 indexes. */
export class IndexCursor extends BaseCursor {
  readonly #count: number;
  readonly #keyView: DataView;
  readonly #load: (index: number, cursor: IndexCursor) => Found;
  #index = -1;

  /** `bytesEach` is the kernel's minimum memory per index. `load` sets the value of one index, or `valueMissing`. */
  constructor(
    kernel: GuestKernel,
    shape: Shape,
    { count, bytesEach }: { readonly count: number; readonly bytesEach: number },
    load: (index: number, cursor: IndexCursor) => Found,
  ) {
    super(shape);
    this.keyBytes = new Uint8Array(4);
    this.#keyView = new DataView(this.keyBytes.buffer);
    const most = mostObjects(kernel, bytesEach);
    this.#count = Math.min(count, most);
    if (count > most) this.account.stopped = `stopped after ${most} of ${count}: the image cannot hold more`;
    this.#load = load;
  }

  protected advance(): boolean {
    while (++this.#index < this.#count) {
      this.valueMissing = "";
      this.note = "";
      const found = this.#load(this.#index, this);
      if (found === "value") {
        this.account.seen();
        this.#keyView.setUint32(0, this.#index, true);
        return true;
      }
      if (found === "skipped" && this.account.stopped !== "") return false;
    }
    return false;
  }
}
