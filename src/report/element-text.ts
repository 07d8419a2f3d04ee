/** What a map holds, piece by piece, as text for people. */
import { declaration } from "../btf/declare.ts";
import type { TextOptions } from "../btf/text.ts";
import type { ContentRecord, StorageOwner } from "../state.ts";
import { escapeText, printable } from "../text.ts";
import type { ArenaObject } from "./arena-objects.ts";
import { type MapTypes, soundly, type TypeRef, text } from "./typed.ts";
import { hexAddress } from "./words.ts";

/** `task 12 (sleep): { hits = 3 }`. */
export function recordText(
  record: ContentRecord,
  types: MapTypes | undefined,
  options?: TextOptions,
): string {
  const words = [record.owner === undefined ? "" : ownerText(record.owner), record.note ?? ""];
  const head = words.filter((word) => word !== "").join(", ");
  return `${head === "" ? "value" : head}: ${bytesText(types?.value, record.value, options)}`;
}

/** Typed, or in hexadecimal. */
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

/** `+0x018  struct node *head = arena+0x3e7fd8`. */
export function arenaObjectText(object: ArenaObject, options: TextOptions | undefined): string {
  const { offset, names, isVariable, typeText, type, bytes } = object;
  const name = names.join(", ");
  const head = isVariable
    ? `${soundly(name, () => declaration(type.btf, type.id, name))} =`
    : names.length === 0
      ? typeText
      : `${name} = ${typeText}`;
  return `+0x${offset.toString(16).padStart(3, "0")}  ${escapeText(head)} ${text(type, bytes, options)}`;
}
