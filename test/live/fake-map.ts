/** A map of the fake kernel: hash and array elements, looked up singly and in batches as in a real kernel. */
import type { Attr } from "../../src/live/attr.ts";
import { EFAULT, ENOENT, ENOSPC } from "../../src/uapi/errno.ts";
import { isPerCpuMap, MapType } from "../../src/uapi/names.ts";
import type { FakeKernel } from "./fake.ts";

export interface FakeMapOptions {
  readonly id: number;
  readonly name?: string | Uint8Array;
  readonly type?: number;
  readonly keySize?: number;
  readonly valueSize?: number;
  readonly maxEntries?: number;
  readonly fdInfo?: string;
  /** Further fields of `struct bpf_map_info`. */
  readonly info?: Readonly<Record<string, number>>;
  /** Number of elements in one bucket: a batch takes whole buckets or none. */
  readonly bucketSize?: number;
}

export class FakeMap {
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly fdInfo: string;
  readonly info: Readonly<Record<string, number | Uint8Array>>;
  /** By the key's bytes in hexadecimal, in the order of the walk. */
  readonly elements: Map<string, Uint8Array> = new Map();
  readonly bucketSize: number;

  constructor(options: FakeMapOptions) {
    this.id = options.id;
    this.type = options.type ?? MapType.hash;
    this.keySize = options.keySize ?? 4;
    this.valueSize = options.valueSize ?? 8;
    this.maxEntries = options.maxEntries ?? 1024;
    this.fdInfo = options.fdInfo ?? "pos:\t0\nmemlock:\t4096\nfrozen:\t0\n";
    this.bucketSize = options.bucketSize ?? 1;
    const name = options.name ?? `map_${options.id}`;
    this.info = {
      type: this.type,
      key_size: this.keySize,
      value_size: this.valueSize,
      max_entries: this.maxEntries,
      name: typeof name === "string" ? new TextEncoder().encode(name) : name,
      ...options.info,
    };
  }

  /** Returns the bytes that one look-up writes: each CPU's copy at the rounded stride, with padding that must not be shown. */
  #stored(value: Uint8Array, kernel: FakeKernel): Uint8Array {
    if (!isPerCpuMap(this.type)) return value;
    const stride = Math.ceil(this.valueSize / 8) * 8;
    const all = new Uint8Array(stride * kernel.possibleCpus).fill(0xee);
    for (let cpu = 0; cpu < kernel.possibleCpus; cpu++) {
      all.set(value, cpu * stride);
      all[cpu * stride] = cpu;
    }
    return all;
  }

  /** Adds an element with a u32 key and a value that repeats the key's low byte (per-CPU: with the CPU in front). */
  put(key: number): void {
    const bytes = new Uint8Array(Math.max(4, this.keySize));
    new DataView(bytes.buffer).setUint32(0, key, true);
    this.elements.set(hex(bytes.subarray(0, this.keySize)), new Uint8Array(this.valueSize).fill(key));
  }

  putAll(count: number): this {
    for (let key = 0; key < count; key++) this.put(key);
    return this;
  }

  lookup(attr: Attr, kernel: FakeKernel): number {
    const key = attr.pointee("key");
    if (key === undefined) return -EFAULT;
    const value = this.elements.get(hex(key.subarray(0, this.keySize)));
    if (value === undefined) return -ENOENT;
    return write(attr, "value", this.#stored(value, kernel), 0, kernel);
  }

  /** For a missing key the walk restarts (kernel/bpf/hashtab.c, htab_map_get_next_key). */
  nextKey(attr: Attr, kernel: FakeKernel): number {
    const keys = [...this.elements.keys()];
    const from = attr.pointee("key");
    const at = from === undefined ? -1 : keys.indexOf(hex(from.subarray(0, this.keySize)));
    const next = keys[at + 1];
    return next === undefined ? -ENOENT : write(attr, "value", unhex(next), 0, kernel);
  }

  /** kernel/bpf/hashtab.c, `__htab_map_lookup_and_delete_batch`: whole buckets; ENOSPC if not even one fits. */
  batch(attr: Attr, kernel: FakeKernel): number {
    const position = attr.pointee("in_batch");
    let index = position === undefined ? 0 : new DataView(position.buffer).getUint32(0, true);
    const entries = [...this.elements];
    const room = attr.get("count");
    let count = 0;
    attr.set("count", 0);
    while (index < entries.length) {
      const bucket = entries.slice(index, index + this.bucketSize);
      if (count + bucket.length > room) {
        if (count === 0) return -ENOSPC;
        break;
      }
      for (const [key, value] of bucket) {
        const stored = this.#stored(value, kernel);
        write(attr, "keys", unhex(key), count * this.keySize, kernel);
        write(attr, "values", stored, count * stored.length, kernel);
        count++;
      }
      index += bucket.length;
    }
    attr.set("count", count);
    const next = new Uint8Array(4);
    new DataView(next.buffer).setUint32(0, index, true);
    write(attr, "out_batch", next, 0, kernel);
    return index >= entries.length ? -ENOENT : 0;
  }
}

/** Writes the bytes that fit, and records a longer write, which would overflow a real reader's heap. */
function write(attr: Attr, field: string, bytes: Uint8Array, at: number, kernel: FakeKernel): number {
  const into = attr.pointee(field);
  if (into === undefined) return -EFAULT;
  const missing = at + bytes.length - into.length;
  if (missing > 0) kernel.overflows.push(`${field}: ${missing} bytes past a buffer of ${into.length}`);
  if (at < into.length) into.set(bytes.subarray(0, into.length - at), at);
  return 0;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function unhex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "hex"));
}
