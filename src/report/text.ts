/** Objects as text in bpftool's plain form, with units. */
import { statsLine } from "../derive.ts";
import type {
  BtfInfo,
  KernelInfo,
  LinkDetails,
  LinkInfo,
  MapInfo,
  OffloadDevice,
  ProgInfo,
} from "../state.ts";
import { escapeText, printable } from "../text.ts";
import { LINK_TYPES, LinkType, MAP_TYPES, MapType, PROG_TYPES } from "../uapi/names.ts";
import { loadedAt } from "./bpftool.ts";
import type { StatsInterval } from "./interval.ts";
import { sizeText } from "./units.ts";
import { typeText } from "./words.ts";

/** Formats the first line of a map: `12: hash  name events  flags 0x1`. */
export function mapTitle(map: MapInfo): string {
  const name = map.name.length === 0 ? "" : `name ${printable(map.name)}  `;
  return `${map.id}: ${typeText(MAP_TYPES, map.type)}  ${name}flags 0x${map.flags.toString(16)}${deviceText(map.device)}`;
}

export function mapText(map: MapInfo): string {
  const lines = [mapTitle(map)];
  const memlock = map.memlockBytes === undefined ? "" : `  memlock ${sizeText(map.memlockBytes)}`;
  lines.push(`key ${map.keySize}B  value ${map.valueSize}B  max_entries ${map.maxEntries}${memlock}`);
  if (map.type === MapType.prog_array && map.ownerProgType !== undefined) {
    const jited = map.ownerJited === true ? "owner jited" : "owner not jited";
    lines.push(`owner_prog_type ${typeText(PROG_TYPES, map.ownerProgType)}  ${jited}`);
  }
  const rest: string[] = [];
  if (map.btfId !== 0) rest.push(`btf_id ${map.btfId}`);
  if (map.mapExtra !== 0n) rest.push(`map_extra 0x${map.mapExtra.toString(16)}`);
  if (map.frozen) rest.push("frozen");
  if (rest.length > 0) lines.push(rest.join("  "));
  return lines.join("\n\t");
}

export function progText(prog: ProgInfo, kernel: KernelInfo, interval?: StatsInterval): string {
  const lines = [progTitle(prog)];
  const loaded = loadedAt(prog, kernel);
  if (prog.loadTimeNs !== 0n) {
    const when = loaded === undefined ? "" : `loaded_at ${dateText(loaded)}  `;
    lines.push(`${when}uid ${prog.createdByUid}`);
  }
  const jited = prog.jited ? `jited ${sizeText(prog.jitedBytes)}` : "not jited";
  const memlock = prog.memlockBytes === undefined ? "" : `  memlock ${sizeText(prog.memlockBytes)}`;
  const maps = prog.mapIds.length === 0 ? "" : `  map_ids ${prog.mapIds.join(",")}`;
  lines.push(`xlated ${sizeText(prog.translatedBytes)}  ${jited}${memlock}${maps}`);
  const rest: string[] = [];
  if (prog.btfId !== 0) rest.push(`btf_id ${prog.btfId}`);
  if (prog.verifiedInsns !== undefined) rest.push(`verified_insns ${prog.verifiedInsns}`);
  if (rest.length > 0) lines.push(rest.join("  "));
  if (!prog.stats.ok) lines.push(`stats: ${prog.stats.why.detail}`);
  else if (interval !== undefined) {
    lines.push(statsLine(`last ${interval.seconds.toFixed(2)} s`, interval.of(prog)));
    lines.push(statsLine("in all", prog.stats.value));
  } else if (prog.stats.value.count > 0n || prog.stats.value.misses > 0n) {
    lines.push(statsLine("stats", prog.stats.value));
  }
  return lines.join("\n\t");
}

function progTitle(prog: ProgInfo): string {
  const name = prog.fullName.length === 0 ? "" : `name ${printable(prog.fullName)}  `;
  const gpl = prog.gplCompatible ? "  gpl" : "";
  const tag = Buffer.from(prog.tag).toString("hex");
  return `${prog.id}: ${typeText(PROG_TYPES, prog.type)}  ${name}tag ${tag}${deviceText(prog.device)}${gpl}`;
}

/** bpftool's `print_prog_header_plain` (prog.c): the line before each of several programs in `prog dump`. */
export function progHeaderText(prog: ProgInfo): string {
  const stats = prog.stats.ok ? prog.stats.value : undefined;
  const ran =
    stats === undefined || stats.runTimeNs === 0n
      ? ""
      : ` run_time_ns ${stats.runTimeNs} run_cnt ${stats.count}`;
  const misses = stats === undefined || stats.misses === 0n ? "" : ` recursion_misses ${stats.misses}`;
  return `${progTitle(prog)}${ran}${misses}`;
}

/** bpftool's `print_dev_plain` (common.c). */
function deviceText(device: OffloadDevice | undefined): string {
  if (device === undefined) return "";
  const { ifindex, netnsDev, netnsIno, name } = device;
  if (name !== undefined) return `  offloaded_to ${printable(name)}`;
  return `  offloaded_to ifindex ${ifindex} ns_dev ${netnsDev} ns_ino ${netnsIno}`;
}

/** `place`: place of the attachment as text (link-place.ts). */
export function linkText(
  link: LinkInfo,
  progType: (id: number) => number | undefined,
  place: string,
): string {
  const lines = [`${link.id}: ${typeText(LINK_TYPES, link.type)}  prog ${link.progId}`];
  if (place !== "") lines.push(place);
  const details = Object.entries(link.details).map(([key, value]) => `${key} ${detailText(value)}`);
  const type = link.type === LinkType.tracing ? progType(link.progId) : undefined;
  if (type !== undefined) details.unshift(`prog_type ${typeText(PROG_TYPES, type)}`);
  if (details.length > 0) lines.push(details.join("  "));
  return lines.join("\n\t");
}

export function btfText(btf: BtfInfo, progs: readonly ProgInfo[], maps: readonly MapInfo[]): string {
  const name = btf.name.length === 0 ? "<anon>" : printable(btf.name);
  const ids = (label: string, users: readonly { id: number; btfId: number }[]): string => {
    const list = users.filter((user) => user.btfId === btf.id).map((user) => user.id);
    return list.length === 0 ? "" : `  ${label} ${list.join(",")}`;
  };
  const shown = btf.kernel ? `[${name}]` : name;
  return `${btf.id}: name ${shown}  size ${sizeText(btf.sizeBytes)}${ids("prog_ids", progs)}${ids("map_ids", maps)}`;
}

/** Formats like bpftool's `%FT%T%z`, but in UTC: the time zone of the examined machine is not known. */
export function dateText(unixSeconds: bigint): string {
  const date = new Date(Number(unixSeconds) * 1000);
  return Number.isNaN(date.getTime()) ? `${unixSeconds} s` : date.toISOString().replace(".000Z", "Z");
}

function detailText(value: LinkDetails[string]): string {
  if (typeof value === "string") return `'${escapeText(value)}'`;
  if (Array.isArray(value)) return `[${value.map(detailText).join(", ")}]`;
  if (value === null || typeof value !== "object") return String(value);
  return `{${Object.entries(value)
    .map(([key, item]) => `${key} ${detailText(item)}`)
    .join(" ")}}`;
}
