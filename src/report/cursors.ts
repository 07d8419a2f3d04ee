/** Cursors over other cursors: each selects or converts the elements of its inner cursor. */
import type { EntryCursor, WalkEnd } from "../state.ts";
import type { Predicate } from "./filter.ts";
import type { Summer } from "./sum.ts";

/** Base class: passes all elements through unchanged. */
class PassThroughCursor implements EntryCursor {
  protected readonly inner: EntryCursor;

  constructor(inner: EntryCursor) {
    this.inner = inner;
  }

  get keySize(): number {
    return this.inner.keySize;
  }
  get valueSize(): number {
    return this.inner.valueSize;
  }
  get cpuCount(): number {
    return this.inner.cpuCount;
  }
  get cpus(): readonly number[] | undefined {
    return this.inner.cpus;
  }
  get valueStride(): number {
    return this.inner.valueStride;
  }
  get keyBytes(): Uint8Array {
    return this.inner.keyBytes;
  }
  get keyOffset(): number {
    return this.inner.keyOffset;
  }
  get valueBytes(): Uint8Array {
    return this.inner.valueBytes;
  }
  get valueOffset(): number {
    return this.inner.valueOffset;
  }
  get valueMissing(): string {
    return this.inner.valueMissing;
  }
  get note(): string {
    return this.inner.note ?? "";
  }
  get end(): WalkEnd {
    return this.inner.end;
  }
  next(): boolean {
    return this.inner.next();
  }
  [Symbol.dispose](): void {
    this.inner[Symbol.dispose]();
  }
}

/** Selects matching elements. A per-CPU element matches if the value of any CPU does. Unreadable values count as skipped. */
export class FilterCursor extends PassThroughCursor {
  readonly #holds: Predicate;
  #unread = 0;

  constructor(inner: EntryCursor, holds: Predicate) {
    super(inner);
    this.#holds = holds;
  }

  override next(): boolean {
    const { inner } = this;
    while (inner.next()) {
      if (inner.valueMissing !== "") {
        this.#unread++;
        continue;
      }
      const copies = Math.max(1, inner.cpuCount);
      for (let copy = 0; copy < copies; copy++)
        if (this.#holds(inner, inner.valueOffset + copy * inner.valueStride)) return true;
    }
    return false;
  }

  override get end(): WalkEnd {
    return withSkipped(this.inner.end, "value not readable, so not compared", this.#unread);
  }
}

export function withSkipped(end: WalkEnd, reason: string, count: number): WalkEnd {
  if (count === 0) return end;
  return { ...end, complete: false, skipped: new Map([...end.skipped, [reason, count]]) };
}

const COMPLETE: WalkEnd = { complete: true, stopped: "", skipped: new Map() };

/** Ends after `limit` elements. Such an end is complete: all requested elements were read. */
export class LimitCursor extends PassThroughCursor {
  #left: number;
  #cut = false;

  constructor(inner: EntryCursor, limit: number) {
    super(inner);
    this.#left = limit;
  }

  override next(): boolean {
    this.#cut = this.#left === 0;
    if (this.#cut) return false;
    this.#left--;
    return this.inner.next();
  }

  override get end(): WalkEnd {
    return this.#cut ? COMPLETE : this.inner.end;
  }
}

/** Selects one CPU's value of each element. */
export class PickCpuCursor extends PassThroughCursor {
  readonly #index: number;
  readonly #cpus: readonly number[];

  /** `index`: index of the CPU's value in the inner cursor's element. */
  constructor(inner: EntryCursor, index: number) {
    super(inner);
    this.#index = index;
    this.#cpus = [inner.cpus?.[index] ?? index];
  }

  override get cpuCount(): number {
    return 1;
  }
  override get cpus(): readonly number[] {
    return this.#cpus;
  }
  override get valueOffset(): number {
    return this.inner.valueOffset + this.#index * this.inner.valueStride;
  }
}

/** Replaces the values of each element by their sum over all CPUs. */
export class SumCursor extends PassThroughCursor {
  readonly #summer: Summer;

  constructor(inner: EntryCursor, summer: Summer) {
    super(inner);
    this.#summer = summer;
  }

  override get cpuCount(): number {
    return 0;
  }
  override get cpus(): undefined {
    return undefined;
  }
  override get valueStride(): number {
    return 0;
  }
  override get valueBytes(): Uint8Array {
    return this.#summer.total;
  }
  override get valueOffset(): number {
    return 0;
  }
  override next(): boolean {
    const { inner } = this;
    if (!inner.next()) return false;
    if (inner.valueMissing === "")
      this.#summer.sum(inner.valueBytes, inner.valueOffset, inner.valueStride, inner.cpuCount);
    return true;
  }
}

/** Cursor over one element that was read before. */
export class SingleCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly cpus: readonly number[] | undefined;
  readonly valueStride: number;
  readonly keyBytes: Uint8Array;
  readonly keyOffset = 0;
  readonly valueBytes: Uint8Array;
  readonly valueOffset = 0;
  readonly valueMissing = "";
  readonly end: WalkEnd = COMPLETE;
  #isNext = true;

  /** `cpus`: CPU of each value; undefined if the map is not per-CPU. */
  constructor(
    key: Uint8Array,
    values: readonly Uint8Array[],
    valueSize: number,
    cpus: readonly number[] | undefined,
  ) {
    this.keySize = key.length;
    this.keyBytes = key;
    this.valueSize = valueSize;
    this.cpuCount = cpus?.length ?? 0;
    this.cpus = cpus;
    this.valueStride = cpus === undefined ? 0 : valueSize;
    this.valueBytes = Buffer.concat(values);
  }

  next(): boolean {
    const was = this.#isNext;
    this.#isNext = false;
    return was;
  }

  [Symbol.dispose](): void {}
}
