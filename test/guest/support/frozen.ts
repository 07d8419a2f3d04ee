/** Frozen guests with the answers that bpftool gave in them, and what our reading of one differs in. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type GuestKernel, openKernel } from "../../../src/guest/kernel.ts";
import { listMaps } from "../../../src/guest/map-info.ts";
import { readContents } from "../../../src/guest/maps/contents.ts";
import { WalkLog } from "../../../src/guest/walklog.ts";
import type { EntryCursor, MapInfo } from "../../../src/state.ts";
import { MAP_TYPES } from "../../../src/uapi/names.ts";

/** Folders of frozen guests; none where the machine has none. */
export function frozenGuests(): string[] {
  const base = process.env["KTSTR_FROZEN_DIR"];
  if (base === undefined || !existsSync(base)) return [];
  return readdirSync(base)
    .filter((name) => existsSync(join(base, name, "answers", "map-show.json")))
    .map((name) => join(base, name));
}

export function openFrozen(dir: string): GuestKernel {
  return openKernel({ memory: [{ path: join(dir, "mem") }] });
}

// bpftool's JSON as it is.
// biome-ignore lint/suspicious/noExplicitAny: a foreign format
type Json = any;

export function answer(dir: string, ...path: string[]): Json {
  return JSON.parse(readFileSync(join(dir, "answers", ...path), "utf8"));
}

/** What `bpftool -j map show` prints of a map, from our attributes. */
export function asBpftool(info: MapInfo): Record<string, unknown> {
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
  };
}

const hexBytes = (bytes: Uint8Array): string[] =>
  [...bytes].map((byte) => `0x${byte.toString(16).padStart(2, "0")}`);

/** A cursor's entries as `bpftool -j map dump` prints them, without what BTF adds. */
export function dump(cursor: EntryCursor): Json[] {
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

/** Attributes and contents that differ from bpftool's, a sentence each; `counts` gets how many maps were compared by type. */
export function differences(
  dir: string,
  counts: Map<string, { maps: number; entries: number; wrong: number }>,
): string[] {
  using kernel = openFrozen(dir);
  const log = new WalkLog();
  const maps = listMaps(kernel, log);
  const wrong: string[] = [...log.details];
  const shown: Json[] = answer(dir, "map-show.json");
  const ids = maps.map(({ info }) => info.id).join();
  const theirIds = shown.map(({ id }) => id).join();
  if (ids !== theirIds) wrong.push(`ids ${ids}, bpftool has ${theirIds}`);
  for (const map of maps) {
    const { info } = map;
    const type = MAP_TYPES[info.type] ?? "?";
    const count = counts.get(type) ?? { maps: 0, entries: 0, wrong: 0 };
    counts.set(type, count);
    count.maps++;
    const theirs = shown.find(({ id }) => id === info.id);
    if (theirs === undefined) continue;
    const ours = asBpftool(info);
    for (const [key, value] of Object.entries(ours))
      if (theirs[key] !== value)
        wrong.push(`map ${info.id} ${type} ${key}: ${value}, bpftool has ${theirs[key]}`);
    const contents = readContents(kernel, map);
    const path = join(dir, "answers", "map-dump", `${info.id}.json`);
    if (!existsSync(path) || readFileSync(path).length === 0) continue;
    const expected: Json = answer(dir, "map-dump", `${info.id}.json`);
    if (contents.kind !== "entries") {
      const had = Array.isArray(expected) ? `${expected.length} entries` : JSON.stringify(expected);
      if (contents.kind === "unreadable")
        wrong.push(`map ${info.id} ${type}: ${contents.why.detail} (bpftool: ${had})`);
      continue;
    }
    const entries = dump(contents.cursor);
    if (!Array.isArray(expected)) {
      wrong.push(`map ${info.id} ${type}: bpftool ${JSON.stringify(expected)}; ours ${entries.length}`);
      continue;
    }
    count.entries += entries.length;
    const a = plain(entries);
    const b = plain(expected);
    const { end } = contents.cursor;
    if (!end.complete)
      wrong.push(`map ${info.id} ${type}: ${end.stopped} ${JSON.stringify([...end.skipped])}`);
    const off = a.filter((entry, n) => entry !== b[n]).length + Math.abs(a.length - b.length);
    if (off > 0) {
      count.wrong += off;
      const n = a.findIndex((entry, n) => entry !== b[n]);
      wrong.push(
        `map ${info.id} ${type} "${ours["name"]}": ${a.length} entries, bpftool has ${b.length}; ${off} differ; first ${a[n]?.slice(0, 300)} / ${b[n]?.slice(0, 300)}`,
      );
    }
  }
  return wrong;
}
