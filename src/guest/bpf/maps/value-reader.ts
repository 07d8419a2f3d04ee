/** Readers for values that the kernel stores in another form than user space sees. */
import type { GuestMemory } from "../../memory/memory.ts";
import type { IdReader } from "./object-id.ts";
import type { PerCpuValue } from "./percpu-value.ts";
import { clearFields, type SpecialField } from "./special-fields.ts";

export interface ValueReader {
  /** Bytes of the element that `read` needs. */
  readonly inlineBytes: number;
  /** The buffer in which `read` stores the value, at offset 0. */
  readonly bytes: Uint8Array;
  /** Why the last element has no value to show; "" if it has one. */
  readonly missing: string;
  /** Reads a value from `source` at `at`. Returns false if memory on the way is not in the image. */
  read(source: Uint8Array, view: DataView, at: number): boolean;
}

export class PerCpuReader implements ValueReader {
  readonly inlineBytes = 8;
  readonly missing = "";
  readonly bytes: Uint8Array;
  readonly #values: PerCpuValue;

  constructor(values: PerCpuValue) {
    this.#values = values;
    this.bytes = values.bytes;
  }

  read(_source: Uint8Array, view: DataView, at: number): boolean {
    return this.#values.read(view.getInt32(at + 4, true), view.getInt32(at, true));
  }
}

/** The element holds a pointer to a BPF object; the value is the object's id. */
export class ObjectIdReader implements ValueReader {
  readonly inlineBytes = 8;
  readonly missing = "";
  readonly bytes: Uint8Array = new Uint8Array(4);
  readonly #out: DataView = new DataView(this.bytes.buffer);
  readonly #idOf: IdReader;

  constructor(idOf: IdReader) {
    this.#idOf = idOf;
  }

  read(_source: Uint8Array, view: DataView, at: number): boolean {
    const id = this.#idOf(view.getInt32(at + 4, true), view.getInt32(at, true));
    if (id < 0) return false;
    this.#out.setUint32(0, id, true);
    return true;
  }
}

/** Values with fields that the kernel does not show. */
export class MaskingReader implements ValueReader {
  readonly inlineBytes: number;
  readonly missing = "";
  readonly bytes: Uint8Array;
  readonly #fields: readonly SpecialField[];

  constructor(valueSize: number, fields: readonly SpecialField[]) {
    this.inlineBytes = valueSize;
    this.bytes = new Uint8Array(valueSize);
    this.#fields = fields;
  }

  read(source: Uint8Array, _view: DataView, at: number): boolean {
    this.bytes.set(source.subarray(at, at + this.inlineBytes));
    clearFields(this.#fields, this.bytes, 0);
    return true;
  }
}

/** The element holds a pointer to a struct that holds the value. */
export class PointerReader implements ValueReader {
  readonly inlineBytes = 8;
  readonly missing = "";
  readonly bytes: Uint8Array;
  readonly #memory: GuestMemory;
  readonly #offset: number;
  readonly #fields: readonly SpecialField[];

  constructor(
    memory: GuestMemory,
    { offset, size, fields }: { offset: number; size: number; fields: readonly SpecialField[] },
  ) {
    this.#memory = memory;
    this.#offset = offset;
    this.#fields = fields;
    this.bytes = new Uint8Array(size);
  }

  read(_source: Uint8Array, view: DataView, at: number): boolean {
    const memory = this.#memory;
    const hi = view.getInt32(at + 4, true);
    const from = memory.locate(hi, view.getInt32(at, true), this.#offset, this.bytes.length);
    if (from < 0) return false;
    this.bytes.set(memory.bytes.subarray(from, from + this.bytes.length));
    clearFields(this.#fields, this.bytes, 0);
    return true;
  }
}
