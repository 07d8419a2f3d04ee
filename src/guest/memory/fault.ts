/** Faults: errors of reads of guest memory. */
import { KtstrError } from "../../errors.ts";
import { hex, toBigInt } from "./pointer.ts";

/** Why guest memory at an address cannot be read. */
export type FaultReason =
  | "not-mapped" // a page-table entry is not present
  | "outside-image" // its physical address is not in the image
  | "unreadable" // its page is in the image, but damaged
  | "table-outside" // a page table is not in the image
  | "not-canonical" // not an address in the kernel's half of the address space
  | "wraps" // the range extends past 2^64
  | "too-long"; // longer than any kernel object

const SENTENCES: Readonly<Record<FaultReason, string>> = {
  "not-mapped": "is not mapped",
  "outside-image": "is outside the memory image",
  unreadable: "is in a damaged page of the memory image",
  "table-outside": "cannot be translated: a page table is outside the memory image",
  "not-canonical": "is not a kernel address",
  wraps: "extends past the end of the address space",
  "too-long": "is the start of a range that is longer than any kernel object",
};

/**
 * A failed read of guest memory. `path` says where the address comes from ("map_idr.xa_head -> slots[3]"); `level` is the
 * page-table level that ended the walk ("PMD"), or "".
 */
export class GuestFault extends KtstrError {
  readonly reason: FaultReason;
  /** Guest virtual address. */
  readonly address: bigint;
  readonly level: string;
  readonly path: string;

  constructor(reason: FaultReason, hi: number, lo: number, level: string, path: string) {
    super(faultSentence(reason, hi, lo, level, path));
    this.reason = reason;
    this.address = toBigInt(hi, lo);
    this.level = level;
    this.path = path;
  }
}

/** "read map_idr.xa_head: 0xffff888000001000 is not mapped (PMD entry not present)". */
export function faultSentence(
  reason: FaultReason,
  hi: number,
  lo: number,
  level: string,
  path: string,
): string {
  const where =
    level === "" ? "" : reason === "not-mapped" ? ` (${level} entry not present)` : ` (at ${level})`;
  return `read${path === "" ? "" : ` ${path}`}: ${hex(hi, lo)} ${SENTENCES[reason]}${where}`;
}
