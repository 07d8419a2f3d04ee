import { KtstrError } from "../../errors.ts";
import { hex, toBigInt } from "./pointer.ts";

/** Why an address of the guest has no bytes. */
export type FaultReason =
  | "not-mapped" // a page-table entry on the way is not present
  | "outside-image" // it translates to a physical address that the image does not hold
  | "unreadable" // the image holds its page, and the page's bytes are damaged
  | "table-outside" // a page table on the way lies outside the image
  | "not-canonical" // no address of the kernel's half of the address space
  | "wraps" // the range runs past 2^64
  | "too-long"; // a length that no object of the kernel has

const SENTENCES: Readonly<Record<FaultReason, string>> = {
  "not-mapped": "is not mapped",
  "outside-image": "lies outside the memory image",
  unreadable: "lies in a page of the memory image that is damaged",
  "table-outside": "cannot be translated: a page table lies outside the memory image",
  "not-canonical": "is not a kernel address",
  wraps: "runs past the end of the address space",
  "too-long": "has a length that no object of the kernel has",
};

/**
 * A read of guest memory that has no answer. `path` says how the address was come by
 * ("map_idr.xa_head -> slots[3]"), `level` which page-table level ended the walk ("PMD"), "" where none did.
 */
export class GuestFault extends KtstrError {
  readonly reason: FaultReason;
  /** Guest virtual. */
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
