/** Frozen guests with bpftool's answers in them, and the differences of ktstr's answers. */

import { listMaps } from "../../../src/guest/bpf/map-info.ts";
import { readContents } from "../../../src/guest/bpf/maps/contents.ts";
import type { GuestMap } from "../../../src/guest/bpf/maps/walk.ts";
import type { GuestKernel } from "../../../src/guest/kernel/kernel.ts";
import type { ArenaPage, ContentRecord, EntryCursor, MapContents, MapInfo } from "../../../src/state.ts";
import { printable } from "../../../src/text.ts";
import { MAP_TYPES, MapType, PROG_TYPES } from "../../../src/uapi/names.ts";
import type { LabImage } from "../images.ts";

// bpftool's JSON, unchanged.
// biome-ignore lint/suspicious/noExplicitAny: a foreign format
type Json = any;

/** Parses JSON of bpftool, which writes `(unsupported-kind)` without quotes for some values; undefined if it printed nothing. */
function parse(text: string | undefined): Json {
  if (text === undefined || text.trim() === "") return undefined;
  return JSON.parse(text.replaceAll("(unsupported-kind)", "null"));
}

/** Returns whether programs write to a map until the freeze: as its answer says, or if there is none, by its name. */
function isMoving({ info }: GuestMap, theirs: Json): boolean {
  if (theirs !== undefined) return theirs.static === false;
  return MOVING.test(Buffer.from(info.name).toString("latin1"));
}

/** Maps that the schedulers' programs write to all the time, by their names in scx_*. */
const MOVING = /^(stats|cpu_ctx|scx_.*\.(bss|data)|\.data\.(cpu_.*))$/;

const isCgroupStorage = ({ info }: GuestMap): boolean =>
  info.type === MapType.cgroup_storage || info.type === MapType.percpu_cgroup_storage;

/** Returns ktstr's attributes of a map in the form of `bpftool -j map show`. */
function asBpftool(info: MapInfo): Record<string, unknown> {
  return {
    id: info.id,
    type: MAP_TYPES[info.type],
    name: Buffer.from(info.name).toString("latin1"),
    flags: info.flags,
    bytes_key: info.keySize,
    bytes_value: info.valueSize,
    max_entries: info.maxEntries,
    bytes_memlock: info.memlockBytes,
    frozen: info.frozen ? 1 : 0,
    ...(info.btfId === 0 ? {} : { btf_id: info.btfId }),
    ...(info.type === MapType.prog_array
      ? { owner_prog_type: PROG_TYPES[info.ownerProgType ?? -1], owner_jited: info.ownerJited }
      : {}),
  };
}

const hexBytes = (bytes: Uint8Array): string[] =>
  [...bytes].map((byte) => `0x${byte.toString(16).padStart(2, "0")}`);

/** Returns the entries of a cursor in the form of `bpftool -j map dump`, without the keys that BTF adds. */
function dump(cursor: EntryCursor): Json[] {
  const out: Json[] = [];
  while (cursor.next()) {
    const key = hexBytes(cursor.keyBytes.subarray(cursor.keyOffset, cursor.keyOffset + cursor.keySize));
    const value = (at: number): string[] => hexBytes(cursor.valueBytes.subarray(at, at + cursor.valueSize));
    if (cursor.valueMissing !== "") out.push({ key, value: { error: cursor.valueMissing } });
    else if (cursor.cpuCount === 0) out.push({ key, value: value(cursor.valueOffset) });
    else {
      const values = Array.from({ length: cursor.cpuCount }, (_, cpu) => ({
        cpu,
        value: value(cursor.valueOffset + cpu * cursor.valueStride),
      }));
      out.push({ key, values });
    }
  }
  return out;
}

const plain = (entries: Json[]): string[] =>
  entries
    .map(({ key, value, values }) => JSON.stringify(values === undefined ? { key, value } : { key, values }))
    .sort();

/** Number of compared maps and elements of a type, and number of elements that differed. */
interface Tally {
  maps: number;
  elements: number;
  wrong: number;
}

/** All differences between ktstr's answers for a frozen guest and the answers in it. */
export class Comparison {
  readonly differences: string[] = [];
  readonly tallies: Map<string, Tally> = new Map();
  /** Maps whose contents cannot be compared with answers from before the freeze. */
  readonly moving: GuestMap[] = [];
  readonly #kernel: GuestKernel;

  constructor(image: LabImage, kernel: GuestKernel) {
    this.#kernel = kernel;
    const maps = listMaps(kernel, (sentence) => this.differences.push(sentence));
    this.#attributes(maps, parse(image.answer("map-show.json")));
    const loaded: Json[] = parse(image.answer("loader.json"))?.maps ?? [];
    for (const map of maps) {
      const theirs = loaded.find(({ id }) => id === map.info.id);
      const dumped = parse(image.answer(`map-dump/${map.info.id}.json`));
      if (isMoving(map, theirs)) {
        this.moving.push(map);
        this.#bounds(map, theirs?.bounds ?? {}, dumped);
      } else this.#bpftool(map, dumped);
      if (theirs?.static) this.#loader(map, theirs);
    }
    for (const { id, name } of loaded)
      if (!maps.some(({ info }) => info.id === id)) this.differences.push(`map ${id} ${name} was not found`);
  }

  #tally(prefix: string, { info }: GuestMap): Tally {
    const key = `${prefix} ${MAP_TYPES[info.type] ?? info.type}`;
    const tally = this.tallies.get(key) ?? { maps: 0, elements: 0, wrong: 0 };
    this.tallies.set(key, tally);
    return tally;
  }

  #attributes(maps: readonly GuestMap[], shown: Json[]): void {
    const ids = maps.map(({ info }) => info.id).join();
    const theirs = shown.map(({ id }) => id).join();
    if (ids !== theirs) this.differences.push(`ids ${ids}, bpftool has ${theirs}`);
    for (const { info } of maps) {
      const other = shown.find(({ id }) => id === info.id) ?? {};
      for (const [key, value] of Object.entries(asBpftool(info)))
        if (other[key] !== value)
          this.differences.push(`map ${info.id} ${other.type} ${key}: ${value}, bpftool has ${other[key]}`);
    }
  }

  /**
   * Checks a map that programs wrote to until the freeze against its bounds: the number of elements, and counters that are not
   * smaller than in the earlier answer.
   */
  #bounds(map: GuestMap, bounds: Json, before: Json): void {
    const contents = readContents(this.#kernel, map);
    if (contents.kind !== "entries" || !Array.isArray(before)) return;
    const now = dump(contents.cursor);
    const most = Math.min(map.info.maxEntries, bounds.entries_max ?? Number.POSITIVE_INFINITY);
    if (now.length > most || (bounds.entries ?? now.length) !== now.length)
      this.differences.push(`map ${map.info.id} has ${now.length} elements`);
    if (bounds.only_grows !== true && bounds.each_cpu_only_grows !== true) return;
    const tally = this.#tally("grows", map);
    tally.maps++;
    for (const [n, entry] of now.entries()) {
      tally.elements++;
      const earlier = before[n];
      const least = earlier === undefined ? [] : counters(earlier);
      const isGrown = counters(entry).every((value, cpu) => value >= (least[cpu] ?? -1n));
      if (JSON.stringify(entry.key) === JSON.stringify(earlier?.key) && isGrown) continue;
      tally.wrong++;
      this.differences.push(
        `map ${map.info.id}: ${JSON.stringify(entry)} came after ${JSON.stringify(earlier)}`,
      );
    }
  }

  #bpftool(map: GuestMap, expected: Json): void {
    if (!Array.isArray(expected)) return;
    const contents = readContents(this.#kernel, map);
    if (contents.kind !== "entries") return;
    // Before 6.4 the kernel's walk over this type continues to the head of the list, and returns the bytes there as a last key
    // (kernel/bpf/local_storage.c, cgroup_storage_get_next_key).
    const isOwn = ({ value }: Json): boolean => !isCgroupStorage(map) || value?.error === undefined;
    this.#compare(
      this.#tally("bpftool", map),
      map,
      plain(dump(contents.cursor)),
      plain(expected.filter(isOwn)),
    );
    const { end } = contents.cursor;
    if (!end.complete) this.differences.push(`map ${map.info.id}: ${end.stopped} ${[...end.skipped].join()}`);
  }

  #loader(map: GuestMap, theirs: Json): void {
    const contents = readContents(this.#kernel, map);
    const tally = this.#tally("loader", map);
    if (theirs.content === "bloom" || theirs.content === "struct-ops") return;
    if (theirs.content === "arena") {
      if (contents.kind !== "arena") this.differences.push(`map ${map.info.id}: ${describe(contents)}`);
      else
        this.#compare(
          tally,
          map,
          arenaLines(contents.arena.pages),
          arenaAnswer(theirs, contents.arena.pageSize),
        );
      return;
    }
    const ours =
      contents.kind === "entries"
        ? WITHHELD.includes(map.info.type)
          ? takenKeys(contents.cursor)
          : hexEntries(contents.cursor)
        : contents.kind === "records"
          ? contents.records.map((record) => recordLine(record))
          : [describe(contents)];
    const ordered = theirs.content === "records";
    const expected = theirs.entries.map((entry: Json) => entryLine(entry));
    if (ordered) this.#compare(tally, map, ours, expected);
    else this.#compare(tally, map, ours.sort(), expected.sort());
  }

  #compare(tally: Tally, { info }: GuestMap, ours: readonly string[], theirs: readonly string[]): void {
    tally.maps++;
    tally.elements += ours.length;
    const extra = Math.max(0, theirs.length - ours.length);
    const wrong = ours.filter((line, n) => line !== theirs[n]).length + extra;
    tally.wrong += wrong;
    if (wrong === 0) return;
    const n = ours.findIndex((line, index) => line !== theirs[index]);
    const at = n < 0 ? ours.length : n;
    this.differences.push(
      `map ${info.id} ${MAP_TYPES[info.type]} "${Buffer.from(info.name)}": ${wrong} of ${ours.length} (${theirs.length}) differ, first ${ours[at]?.slice(0, 200)} / ${theirs[at]?.slice(0, 200)}`,
    );
  }
}

/** Returns the u64 of each copy of a value, from bpftool's list of bytes. */
function counters({ value, values }: Json): bigint[] {
  const copies: Json[] = values ?? [{ value }];
  return copies.map((copy) => Buffer.from(copy.value.map(Number)).readBigUInt64LE());
}

const describe = (contents: MapContents): string =>
  contents.kind === "unreadable" ? `${contents.why.reason}: ${contents.why.detail}` : contents.kind;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function hexEntries(cursor: EntryCursor): string[] {
  const lines: string[] = [];
  while (cursor.next()) {
    if (cursor.valueMissing !== "") continue;
    const key = hex(cursor.keyBytes.subarray(cursor.keyOffset, cursor.keyOffset + cursor.keySize));
    const values = Array.from({ length: Math.max(cursor.cpuCount, 1) }, (_, cpu) => {
      const at = cursor.valueOffset + cpu * cursor.valueStride;
      return hex(cursor.valueBytes.subarray(at, at + cursor.valueSize));
    });
    lines.push(`${key} ${values.join()}`);
  }
  return lines;
}

/** Types whose values the kernel does not return. */
const WITHHELD = [MapType.perf_event_array, MapType.cgroup_array, MapType.xskmap];

/** Returns the keys in use of a map whose values cannot be read. */
function takenKeys(cursor: EntryCursor): string[] {
  const lines: string[] = [];
  while (cursor.next()) {
    if ((cursor.note ?? "") === "") continue;
    const key = hex(cursor.keyBytes.subarray(cursor.keyOffset, cursor.keyOffset + cursor.keySize));
    lines.push(`${key} ${cursor.note?.startsWith("cgroup ") ? cursor.note : ""}`.trim());
  }
  return lines;
}

function entryLine({ key = "", value = "", values, owner, note }: Json): string {
  const text = values === undefined ? value : values.join();
  return `${key} ${text}${ownerText(owner)}${note === undefined ? "" : ` ${note}`}`.trim().replace("  ", " ");
}

function ownerText(owner: Json): string {
  if (owner === undefined) return "";
  const { kind } = owner;
  if (kind === "task") return ` task ${owner.pid} ${owner.tgid} ${owner.comm}`;
  if (kind === "cgroup") return ` cgroup ${owner.id} ${printable(Buffer.from(owner.path, "hex"))}`;
  if (kind === "inode") return ` inode ${owner.inode} ${owner.superblock}`;
  return ` socket ${owner.family} ${owner.protocol}`;
}

function recordLine({ value, owner, note }: ContentRecord): string {
  const text = hex(value);
  const end = note === undefined ? "" : ` ${note}`;
  if (owner === undefined) return `${text}${end}`;
  switch (owner.kind) {
    case "task":
      return `${text} task ${owner.pid} ${owner.tgid} ${hex(owner.comm)}${end}`;
    case "cgroup":
      return `${text} cgroup ${owner.id} ${printable(owner.path)}${end}`;
    case "inode":
      return `${text} inode ${owner.inode} ${Buffer.from(owner.superblock)}${end}`;
    case "socket":
      return `${text} socket ${owner.family} ${owner.protocol}${end}`;
    default:
      return `${text} ${owner.why}`;
  }
}

const arenaLines = (pages: readonly ArenaPage[]): string[] =>
  pages.map(({ index, userAddress, bytes }) => `${index} 0x${userAddress.toString(16)} ${hex(bytes)}`);

/** The loader lists parts of pages; the rest is zero. */
function arenaAnswer(theirs: Json, pageSize: number): string[] {
  const pages = new Map<number, { address: bigint; bytes: Uint8Array }>();
  for (const { page, offset = 0, address, value } of theirs.entries) {
    const known = pages.get(page) ?? {
      address: BigInt(address) - BigInt(offset),
      bytes: new Uint8Array(pageSize),
    };
    known.bytes.set(Buffer.from(value, "hex"), offset);
    pages.set(page, known);
  }
  return [...pages]
    .sort(([a], [b]) => a - b)
    .map(([index, { address, bytes }]) => `${index} 0x${address.toString(16)} ${hex(bytes)}`);
}
