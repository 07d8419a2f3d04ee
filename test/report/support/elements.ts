/** A map of two u64 members, its types, and a cursor over elements of a test. */
import { Btf } from "../../../src/btf/btf.ts";
import type { MapTypes } from "../../../src/report/typed.ts";
import type { EntryCursor, MapInfo, WalkEnd } from "../../../src/state.ts";
import { BtfWriter } from "../../btf/support/encode.ts";
import { mapInfo } from "./map-info.ts";

export const elementsInfo = (over: Partial<MapInfo> = {}): MapInfo =>
  mapInfo({
    ...{ id: 7, name: Buffer.from("elements"), valueSize: 32, btfId: 1, btfKeyTypeId: 1, btfValueTypeId: 2 },
    ...over,
  });

/**
 * `u32` keys; values of 32 bytes:
 *
 *     struct value { u64 runs; s32 delta; u8 flags : 3; _Bool on; enum mood mood; char comm[8]; struct { u8 tag; } in[2]; }
 */
export function elementTypes(): MapTypes {
  const writer = new BtfWriter();
  const u32 = writer.int("u32", 4);
  const u64 = writer.int("u64", 8);
  const s32 = writer.int("int", 4, 1);
  const u8 = writer.int("u8", 1);
  const bool = writer.int("_Bool", 1, 4);
  const char = writer.int("char", 1, 1);
  const mood = writer.raw(
    6,
    "mood",
    4,
    [writer.string("CALM"), 0, writer.string("CROSS"), 0xffff_fffd],
    2,
    true,
  );
  const inner = writer.struct("inner", 1, [["tag", u8, 0]]);
  const value = writer.struct("value", 32, [
    ["runs", u64, 0, 0],
    ["delta", s32, 64, 0],
    ["flags", u8, 96, 3],
    ["on", bool, 104, 0],
    ["mood", mood, 128, 0],
    ["comm", writer.array(char, 8), 160, 0],
    ["in", writer.array(inner, 2), 224, 0],
  ]);
  const btf = Btf.parse(writer.bytes());
  return { key: { btf, id: u32 }, value: { btf, id: value } };
}

export interface Value {
  readonly runs?: bigint;
  readonly delta?: number;
  readonly flags?: number;
  readonly on?: boolean;
  readonly mood?: number;
  readonly comm?: string;
  readonly tags?: readonly [number, number];
}

export function valueBytes({
  runs = 0n,
  delta = 0,
  flags = 0,
  on = false,
  mood = 0,
  comm = "",
  tags = [0, 0],
}: Value): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, runs, true);
  view.setInt32(8, delta, true);
  bytes[12] = flags;
  bytes[13] = on ? 1 : 0;
  view.setInt32(16, mood, true);
  bytes.set(Buffer.from(comm), 20);
  bytes.set(tags, 28);
  return bytes;
}

export const u32Bytes = (key: number): Uint8Array => new Uint8Array(Uint32Array.of(key).buffer);

/** Elements with one value per CPU, as from a per-CPU map's cursor, or with one value each. */
export class ListCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly cpus: readonly number[] | undefined;
  readonly valueStride: number;
  keyBytes: Uint8Array = new Uint8Array();
  valueBytes: Uint8Array = new Uint8Array();
  readonly keyOffset = 0;
  readonly valueOffset = 0;
  valueMissing = "";
  disposed = false;
  steps = 0;
  readonly #elements: readonly (readonly [key: Uint8Array, values: readonly Uint8Array[]])[];

  /** Undefined if the value could not be read. With `cpus` the element is of a per-CPU map. */
  constructor(elements: readonly (readonly [Uint8Array, readonly Uint8Array[]])[], cpus?: readonly number[]) {
    this.#elements = elements;
    this.keySize = elements[0]?.[0].length ?? 4;
    this.valueSize = elements[0]?.[1][0]?.length ?? 32;
    this.cpus = cpus;
    this.cpuCount = cpus?.length ?? 0;
    this.valueStride = cpus === undefined ? 0 : this.valueSize;
  }

  get end(): WalkEnd {
    return { complete: true, stopped: "", skipped: new Map() };
  }

  next(): boolean {
    const element = this.#elements[this.steps];
    if (element === undefined) return false;
    this.steps++;
    [this.keyBytes] = element;
    this.valueMissing = element[1].length === 0 ? "it went away" : "";
    this.valueBytes = Buffer.concat(element[1]);
    return true;
  }

  [Symbol.dispose](): void {
    this.disposed = true;
  }
}

/** Returns all keys of a cursor. */
export function keysOf(cursor: EntryCursor): number[] {
  const keys: number[] = [];
  while (cursor.next()) keys.push(Buffer.from(cursor.keyBytes).readUInt32LE(cursor.keyOffset));
  return keys;
}
