import { addressOf, type PinnedBytes } from "../ffi.ts";
import type { Layout } from "../uapi/layout.ts";

/** One encoded member of `union bpf_attr`, zero-filled. Keeps the buffers that it points to alive. */
export class Attr<Names extends string = string> {
  readonly bytes: PinnedBytes;
  readonly #layout: Layout<Names>;
  readonly #view: DataView;
  #pointees: Map<string, PinnedBytes> | undefined;

  constructor(layout: Layout<Names>, values: Partial<Record<Names, number>> = {}) {
    this.bytes = new Uint8Array(new ArrayBuffer(layout.size));
    this.#view = new DataView(this.bytes.buffer);
    this.#layout = layout;
    for (const name in values) this.set(name, values[name] ?? 0);
  }

  /** Sets an integer field; a u64 takes numbers up to 2^53. */
  set(name: Names, value: number): this {
    const { offset, size } = this.#layout.fields[name];
    this.#view.setUint32(offset, value, true);
    if (size === 8) this.#view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
    return this;
  }

  /** Copies bytes into an inline array field, cut to its size. */
  setBytes(name: Names, from: Uint8Array): this {
    const { offset, size } = this.#layout.fields[name];
    this.bytes.fill(0, offset, offset + size);
    this.bytes.set(from.subarray(0, size), offset);
    return this;
  }

  /** Sets a u64 field to the address of a buffer, which must not be empty; `undefined` sets NULL. */
  point(name: Names, at: PinnedBytes | undefined): this {
    this.#pointees ??= new Map();
    if (at !== undefined && this.#pointees.get(name) === at) return this;
    if (at === undefined) this.#pointees.delete(name);
    else this.#pointees.set(name, at);
    return this.set(name, at === undefined ? 0 : addressOf(at));
  }

  /** Returns the buffer of a pointer field. Fake kernels in tests use it. */
  pointee(name: string): PinnedBytes | undefined {
    return this.#pointees?.get(name);
  }

  /** Returns the low 32 bits of an integer field, enough for ids, counts and descriptors. */
  get(name: Names): number {
    return this.#view.getUint32(this.#layout.fields[name].offset, true);
  }
}
