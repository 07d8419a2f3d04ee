/** Runs the zoo on this machine's kernel, and compares its loader's answers with ktstr's plain data. */
import { existsSync } from "node:fs";
import { plainValue } from "../../../src/btf/value.ts";
import { findGlobal, globalValue } from "../../../src/report/find-global.ts";
import { isSection } from "../../../src/report/globals.ts";
import { styleFor } from "../../../src/report/style.ts";
import { typesOf } from "../../../src/report/typed.ts";
import type { BpfState, MapInfo } from "../../../src/state.ts";
import { oldBpftool, which } from "../../btf/support/live.ts";
import type { Expected, ZooAnswers, ZooEntry, ZooMap } from "../../lab/zoo/answers.ts";

/** Returns the reason why the zoo cannot run here, or "". Throws instead if KTSTR_REQUIRE_LAB=1. */
export function zooSkipReason(): string {
  const why = missingRequirement();
  if (why === "") return "";
  if (process.env["KTSTR_REQUIRE_LAB"] === "1") throw new Error(`KTSTR_REQUIRE_LAB=1, and no zoo: ${why}`);
  console.warn(`skipped: the zoo: ${why}`);
  return why;
}

function missingRequirement(): string {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "needs root on Linux";
  if (!existsSync("/sys/kernel/btf/vmlinux")) return "this kernel has no BTF";
  const missing = ["clang-19", "bpftool", "apt-get", "dpkg-deb"].filter((name) => which(name) === null);
  return missing.length === 0 ? oldBpftool() : `not installed: ${missing.join(", ")}`;
}

/** Returns the number of values with an answer of the loader, and the differences from ktstr's plain data. */
export interface Comparison {
  readonly compared: number;
  readonly differences: readonly string[];
}

export function compareWithLoader(state: BpfState, answers: ZooAnswers): Comparison {
  const differences: string[] = [];
  let compared = 0;
  const maps = new Map(state.maps().map((map) => [map.id, map]));
  for (const told of answers.maps) {
    const map = maps.get(told.id);
    if (map === undefined) {
      differences.push(`${told.name}: map ${told.id} is not listed`);
      continue;
    }
    for (const entry of told.entries) {
      if (entry.expect === undefined) continue;
      compared++;
      const plain =
        told.content === "arena" ? arenaValue(state, map, entry) : plainOf(state, map, told, entry);
      const found = difference(plain, entry.expect, "");
      if (found !== undefined) differences.push(`${told.name} key ${entry.key ?? ""}: ${found}`);
    }
  }
  return { compared, differences };
}

function plainOf(state: BpfState, map: MapInfo, told: ZooMap, entry: ZooEntry): unknown {
  if (isSection(map) && typeof entry.expect === "object" && entry.expect !== null)
    return Object.fromEntries(
      Object.keys(entry.expect).map((name) => [name, globalValue(findGlobal(state, map, name))]),
    );
  const types = typesOf(state, map);
  const value = state.lookup(map, Buffer.from(entry.key ?? "", "hex"));
  if (types === undefined || !value.ok || !(value.value instanceof Uint8Array))
    return `cannot be read: ${told.name}`;
  return plainValue(types.value.btf, types.value.id, value.value);
}

/** Returns the arena's dump at this place: a node of the list, or the variables that begin there. */
function arenaValue(state: BpfState, map: MapInfo, entry: ZooEntry): unknown {
  const { page, offset } = entry as ZooEntry & { readonly page: number; readonly offset: number };
  const objects = styleFor(state, map, { follow: 32, declarations: false }).arena?.on(page) ?? [];
  const variables = objects.filter(({ isVariable }) => isVariable);
  const plain = (type: (typeof objects)[number]["type"], bytes: Uint8Array): unknown =>
    plainValue(type.btf, type.id, bytes);
  if (variables.length > 0)
    return Object.fromEntries(variables.map(({ names, type, bytes }) => [names[0], plain(type, bytes)]));
  const object = objects.find((one) => one.offset === offset);
  return object === undefined ? "there is no typed object" : plain(object.type, object.bytes);
}

/** Returns the place of the first difference, or undefined. The loader may leave members out; all other differences count. */
function difference(actual: unknown, wanted: Expected, path: string): string | undefined {
  const said = `${path}: ${String(actual)}, not ${JSON.stringify(wanted)}`;
  if (Array.isArray(wanted)) {
    if (!Array.isArray(actual) || actual.length !== wanted.length) return said;
    return first(wanted.map((item, n) => difference(actual[n], item as Expected, `${path}[${n}]`)));
  }
  if (typeof wanted === "object" && wanted !== null) {
    const members = wanted as { readonly [name: string]: Expected };
    if (typeof members["bytes"] === "string") return sameText(actual, members["bytes"]) ? undefined : said;
    if (typeof actual !== "object" || actual === null) return said;
    const object = actual as { readonly [name: string]: unknown };
    return first(
      Object.entries(members).map(([name, item]) => difference(object[name], item, `${path}.${name}`)),
    );
  }
  if (typeof wanted === "string" && wanted.startsWith("0x"))
    return (typeof actual === "number" || typeof actual === "bigint") && BigInt(actual) === BigInt(wanted)
      ? undefined
      : said;
  if (typeof wanted === "string" && /^-?\d+$/.test(wanted))
    return (typeof actual === "number" || typeof actual === "bigint") && String(actual) === wanted
      ? undefined
      : said;
  return actual === wanted ? undefined : said;
}

const first = (found: readonly (string | undefined)[]): string | undefined =>
  found.find((one) => one !== undefined);

/** Compares text up to its NUL. Bytes that are not UTF-8, or not `char`, are compared one by one. */
function sameText(actual: unknown, hex: string): boolean {
  const bytes = Buffer.from(hex, "hex");
  if (Array.isArray(actual)) return Buffer.from(actual as number[]).equals(bytes);
  const end = bytes.indexOf(0);
  return typeof actual === "string" && Buffer.from(actual).equals(end < 0 ? bytes : bytes.subarray(0, end));
}
