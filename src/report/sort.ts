/** Sorts elements by one of their members. */
import type { Scalar } from "../btf/scalar.ts";
import type { EntryCursor, WalkEnd } from "../state.ts";
import { withSkipped } from "./cursors.ts";
import type { ElementReader } from "./filter.ts";

/** Limit on the memory of kept elements. */
const MAX_BYTES = 256 * 2 ** 20;
const MAX_ELEMENTS = 4_000_000;
const FIRST_SLOTS = 256;

/**
 * At the first call reads the inner cursor to its end, and keeps the elements that are first in order: at most `limit`, and as
 * many as fit `maxBytes` (256 MiB). Equal elements keep the map's order. If not all elements fit, `end` says so.
 */
export class SortCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly cpus: readonly number[] | undefined;
  readonly valueStride: number;
  readonly valueMissing = "";
  keyBytes: Uint8Array = new Uint8Array();
  valueBytes: Uint8Array = new Uint8Array();
  keyOffset = 0;
  valueOffset = 0;
  note = "";

  readonly #inner: EntryCursor;
  readonly #read: ElementReader;
  readonly #sign: number;
  readonly #capacity: number;
  readonly #elementBytes: number;
  /** Whether the caller's limit, not the memory, limits the kept elements. */
  readonly #limited: boolean;
  readonly #keys: Scalar[] = [];
  /** For each slot, the index of its element in the map. */
  readonly #numbers: number[] = [];
  /** Notes of elements that have one, by slot. */
  readonly #notes = new Map<number, string>();
  /** Slots, as a heap whose top is last in order once the capacity is reached. */
  #slots: number[] = [];
  #bytes: Uint8Array = new Uint8Array();
  #seen = 0;
  #unread = 0;
  #position = -1;

  constructor(
    inner: EntryCursor,
    read: ElementReader,
    descending: boolean,
    limit: number | undefined,
    maxBytes: number = MAX_BYTES,
  ) {
    this.#inner = inner;
    this.#read = read;
    this.#sign = descending ? -1 : 1;
    this.keySize = inner.keySize;
    this.valueSize = inner.valueSize;
    this.cpuCount = inner.cpuCount;
    this.cpus = inner.cpus;
    this.valueStride = inner.cpuCount === 0 ? 0 : inner.valueSize;
    this.#elementBytes = inner.keySize + inner.valueSize * Math.max(1, inner.cpuCount);
    const fitting = Math.max(
      1,
      Math.min(MAX_ELEMENTS, Math.floor(maxBytes / Math.max(1, this.#elementBytes))),
    );
    this.#limited = limit !== undefined && limit <= fitting;
    this.#capacity = Math.min(limit ?? fitting, fitting);
  }

  next(): boolean {
    if (this.#position < 0) this.#collect();
    const slot = this.#slots[++this.#position];
    if (slot === undefined) return false;
    this.keyBytes = this.#bytes;
    this.valueBytes = this.#bytes;
    this.keyOffset = slot * this.#elementBytes;
    this.valueOffset = this.keyOffset + this.keySize;
    this.note = this.#notes.get(slot) ?? "";
    return true;
  }

  get end(): WalkEnd {
    const end = withSkipped(this.#inner.end, "value not readable, so not sorted", this.#unread);
    if (this.#limited || this.#seen <= this.#capacity) return end;
    const stopped = `only the first ${this.#capacity} of ${this.#seen} elements fit the memory limit of sorting`;
    return { ...end, complete: false, stopped };
  }

  [Symbol.dispose](): void {
    this.#inner[Symbol.dispose]();
  }

  #collect(): void {
    const inner = this.#inner;
    while (inner.next()) {
      if (inner.valueMissing !== "") this.#unread++;
      else if (this.#capacity > 0) this.#offer(inner);
    }
    this.#slots.sort((a, b) => this.#order(a, b));
  }

  #offer(inner: EntryCursor): void {
    const key = this.#read(inner, inner.valueOffset);
    const number = this.#seen++;
    const count = this.#slots.length;
    if (count < this.#capacity) {
      this.#store(inner, count, key, number);
      this.#slots.push(count);
      if (count + 1 === this.#capacity) for (let at = count >> 1; at >= 0; at--) this.#sink(at);
      return;
    }
    const last = this.#slots[0]!;
    // Of equal elements, the later one is dropped, because it would be last in order.
    if (compare(key, this.#keys[last]!) * this.#sign >= 0) return;
    this.#store(inner, last, key, number);
    this.#sink(0);
  }

  #store(inner: EntryCursor, slot: number, key: Scalar, number: number): void {
    const at = slot * this.#elementBytes;
    this.#grow(at + this.#elementBytes);
    this.#keys[slot] = key;
    this.#numbers[slot] = number;
    this.#notes.delete(slot);
    if (inner.note) this.#notes.set(slot, inner.note);
    this.#bytes.set(inner.keyBytes.subarray(inner.keyOffset, inner.keyOffset + this.keySize), at);
    for (let copy = 0; copy < Math.max(1, this.cpuCount); copy++) {
      const from = inner.valueOffset + copy * inner.valueStride;
      const value = inner.valueBytes.subarray(from, from + this.valueSize);
      this.#bytes.set(value, at + this.keySize + copy * this.valueSize);
    }
  }

  #grow(size: number): void {
    if (size <= this.#bytes.length) return;
    const wanted = Math.max(size, this.#bytes.length * 2, FIRST_SLOTS * this.#elementBytes);
    const grown = new Uint8Array(Math.max(size, Math.min(wanted, this.#capacity * this.#elementBytes)));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }

  #order(a: number, b: number): number {
    return compare(this.#keys[a]!, this.#keys[b]!) * this.#sign || this.#numbers[a]! - this.#numbers[b]!;
  }

  #sink(from: number): void {
    const slots = this.#slots;
    for (let at = from; ; ) {
      let largest = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < slots.length; child++)
        if (this.#order(slots[child]!, slots[largest]!) > 0) largest = child;
      if (largest === at) return;
      [slots[at], slots[largest]] = [slots[largest]!, slots[at]!];
      at = largest;
    }
  }
}

/** Compares, with NaN after every number, so that the order is total. */
export function compare(a: Scalar, b: Scalar): number {
  if (a < b) return -1;
  if (a > b) return 1;
  if (a === b) return 0;
  return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
}
