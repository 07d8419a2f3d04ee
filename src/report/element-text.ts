/** Elements, records and arena objects as text. */
import { declaration } from "../btf/declare.ts";
import type { TextOptions } from "../btf/text.ts";
import type { ContentRecord, StorageOwner } from "../state.ts";
import { escapeText, printable } from "../text.ts";
import type { ArenaObject } from "./arena-objects.ts";
import { type MapTypes, type TypeRef, text, withFallback } from "./typed.ts";
import { hexAddress } from "./words.ts";

/** Formats a record: `task 12 (sleep): { hits = 3 }`. */
export function recordText(
  record: ContentRecord,
  types: MapTypes | undefined,
  options?: TextOptions,
): string {
  const words = [record.owner === undefined ? "" : ownerText(record.owner), record.note ?? ""];
  const head = words.filter((word) => word !== "").join(", ");
  return `${head === "" ? "value" : head}: ${bytesText(types?.value, record.value, options)}`;
}

/** Formats bytes by their type, or as hexadecimal if there is no type. */
export function bytesText(type: TypeRef | undefined, bytes: Uint8Array, options?: TextOptions): string {
  if (type !== undefined) return text(type, bytes, options);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    .toString("hex")
    .replace(/..(?=.)/g, "$& ");
}

function ownerText(owner: StorageOwner): string {
  switch (owner.kind) {
    case "task":
      return `task ${owner.pid} (${printable(owner.comm)})`;
    case "cgroup":
      return `cgroup ${owner.id} ${printable(owner.path)}`;
    case "inode":
      return `inode ${owner.inode} on ${printable(owner.superblock)}`;
    case "socket":
      return `socket ${hexAddress(owner.address)}`;
    case "unknown":
      return `owner unknown: ${owner.why}`;
  }
}

/** Formats an object in an arena: `+0x018  struct node *head = arena+0x3e7fd8`. */
export function arenaObjectText(object: ArenaObject, options: TextOptions | undefined): string {
  const { offset, names, isVariable, typeText, type, bytes } = object;
  const name = names.join(", ");
  const head = isVariable
    ? `${withFallback(name, () => declaration(type.btf, type.id, name))} =`
    : names.length === 0
      ? typeText
      : `${name} = ${typeText}`;
  return `+0x${offset.toString(16).padStart(3, "0")}  ${escapeText(head)} ${text(type, bytes, options)}`;
}
