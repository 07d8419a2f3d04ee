/** Values of a hash table that are not simply the bytes behind the key. */
import { isPerCpuMap, MapType } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel.ts";
import { type IdReader, mapIdReader } from "./object-id.ts";
import { PerCpuValue } from "./percpu-value.ts";
import { clearFields, readSpecialFields, type SpecialField } from "./special-fields.ts";
import type { GuestMap } from "./walk.ts";

export interface ValueReader {
  /** Bytes that lie in the element where its value would. */
  readonly inlineBytes: number;
  /** Where `read` leaves the value, from its first byte on. */
  readonly bytes: Uint8Array;
  /** Reads the value from what lies in the element: `source` from `at` on. "" or why there is none. */
  read(source: Uint8Array, view: DataView, at: number): string;
}

/** undefined: the value is what lies in the element. Throws `GuestFault`. */
export function valueReader(kernel: GuestKernel, map: GuestMap): ValueReader | undefined {
  if (isPerCpuMap(map.info.type)) return new PerCpuReader(new PerCpuValue(kernel, map));
  if (map.info.type === MapType.hash_of_maps) return new InnerMapReader(mapIdReader(kernel));
  const fields = readSpecialFields(kernel, map);
  return fields.length === 0 ? undefined : new MaskingReader(map.info.valueSize, fields);
}

class PerCpuReader implements ValueReader {
  readonly inlineBytes = 8;
  readonly bytes: Uint8Array;
  readonly #values: PerCpuValue;

  constructor(values: PerCpuValue) {
    this.#values = values;
    this.bytes = values.bytes;
  }

  read(_source: Uint8Array, view: DataView, at: number): string {
    return this.#values.read(view.getInt32(at + 4, true), view.getInt32(at, true)) ? "" : "not-present";
  }
}

class InnerMapReader implements ValueReader {
  readonly inlineBytes = 8;
  readonly bytes: Uint8Array = new Uint8Array(4);
  readonly #out: DataView = new DataView(this.bytes.buffer);
  readonly #idOf: IdReader;

  constructor(idOf: IdReader) {
    this.#idOf = idOf;
  }

  read(_source: Uint8Array, view: DataView, at: number): string {
    const id = this.#idOf(view.getInt32(at + 4, true), view.getInt32(at, true));
    if (id < 0) return "not-present";
    this.#out.setUint32(0, id, true);
    return "";
  }
}

/** Values that hold what the kernel does not show. */
class MaskingReader implements ValueReader {
  readonly inlineBytes: number;
  readonly bytes: Uint8Array;
  readonly #fields: readonly SpecialField[];

  constructor(valueSize: number, fields: readonly SpecialField[]) {
    this.inlineBytes = valueSize;
    this.bytes = new Uint8Array(valueSize);
    this.#fields = fields;
  }

  read(source: Uint8Array, _view: DataView, at: number): string {
    this.bytes.set(source.subarray(at, at + this.inlineBytes));
    clearFields(this.#fields, this.bytes, 0);
    return "";
  }
}
