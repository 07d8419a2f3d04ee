/** Derives address translation from VMCOREINFO for each architecture, and checks it against memory. */

import type { PhysicalMemory } from "../image/physical.ts";
import { arm64Paging, PageTables, type PagingMode, x86Paging } from "../memory/mmu.ts";
import { fromBigInt, hex } from "../memory/pointer.ts";
import { findBanner } from "./banner.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** A kernel's address translation, according to its VMCOREINFO. */
export interface Machine {
  /** `uname -m`. */
  readonly machine: "x86_64" | "aarch64";
  readonly mode: PagingMode;
  readonly pageBytes: number;
  /** Physical address of the kernel's top page table. */
  readonly root: number;
  /** Difference between the virtual and the physical addresses of the kernel's image. */
  readonly imageOffset: bigint;
  /** Virtual address of physical address 0 in the direct map; undefined if it is in a kernel variable. */
  readonly directBase: bigint | undefined;
}

/** arch/x86/include/asm/page_64_types.h: `__START_KERNEL_map`. */
export const X86_IMAGE_BASE = 0xffff_ffff_8000_0000n;
/** arch/x86/include/asm/page_64_types.h: `__PAGE_OFFSET_BASE_L4` and `_L5`, used without CONFIG_RANDOMIZE_MEMORY. */
export const X86_DIRECT_MAP = { 4: 0xffff_8880_0000_0000n, 5: 0xff11_0000_0000_0000n } as const;
const MAX_PHYSICAL = 1n << 52n;

/** A clause that says why a text does not match this image's kernel. */
export type Refusal = string;

/** Parses the address translation, or returns a clause if the text does not have enough information. */
export function machineOf(info: Vmcoreinfo): Machine | Refusal {
  if (info.symbol("init_top_pgt") !== undefined) return x86Machine(info);
  if (info.number("NUMBER(kimage_voffset)") !== undefined) return arm64Machine(info);
  return "it has neither init_top_pgt (x86-64) nor kimage_voffset (arm64)";
}

function x86Machine(info: Vmcoreinfo): Machine | Refusal {
  const table = info.symbol("init_top_pgt")!;
  const physBase = info.number("NUMBER(phys_base)");
  if (physBase === undefined) return "it does not have phys_base";
  const imageOffset = X86_IMAGE_BASE - physBase;
  const root = BigInt.asUintN(64, table - imageOffset);
  if (root >= MAX_PHYSICAL) return "init_top_pgt has no physical address";
  const levels = info.number("NUMBER(pgtable_l5_enabled)") === 1n ? 5 : 4;
  return {
    machine: "x86_64",
    mode: x86Paging(levels, encryptionMask(info)),
    pageBytes: 4096,
    root: Number(root),
    imageOffset,
    directBase: undefined,
  };
}

/** Returns `sme_mask` if it is one of the bits 51:32; otherwise 0. */
function encryptionMask(info: Vmcoreinfo): bigint {
  const mask = BigInt.asUintN(64, info.number("NUMBER(sme_mask)") ?? 0n);
  const isOneBit = mask !== 0n && (mask & (mask - 1n)) === 0n;
  return isOneBit && mask >= 1n << 32n && mask < MAX_PHYSICAL ? mask : 0n;
}

const ARM64_PAGE_SHIFTS: Readonly<Record<number, 12 | 14 | 16>> = { 4096: 12, 16384: 14, 65536: 16 };

function arm64Machine(info: Vmcoreinfo): Machine | Refusal {
  const imageOffset = info.number("NUMBER(kimage_voffset)")!;
  const table = info.symbol("swapper_pg_dir");
  const pageBytes = Number(info.number("PAGESIZE") ?? 0n);
  const pageShift = ARM64_PAGE_SHIFTS[pageBytes];
  const linkedBits = Number(info.number("NUMBER(VA_BITS)") ?? 0n);
  const t1sz = Number(info.number("NUMBER(TCR_EL1_T1SZ)") ?? BigInt(64 - linkedBits));
  if (table === undefined || pageShift === undefined) return "it does not have swapper_pg_dir and PAGESIZE";
  // With 64K pages the top table always has entries for all bits of the link-time size. With fewer translated bits, its end
  // is used (arch/arm64/include/asm/assembler.h, offset_ttbr1).
  const addressBits = pageShift === 16 ? linkedBits : 64 - t1sz;
  if (!(addressBits >= 36 && addressBits <= 52 && linkedBits >= 36 && linkedBits <= 52))
    return `it has ${addressBits} translated bits of ${linkedBits}`;
  const root = BigInt.asUintN(64, table - imageOffset);
  if (root >= MAX_PHYSICAL) return "swapper_pg_dir has no physical address";
  const memoryStart = info.number("NUMBER(PHYS_OFFSET)");
  // arch/arm64/include/asm/memory.h: __phys_to_virt is (x - PHYS_OFFSET) | PAGE_OFFSET; PHYS_OFFSET may be negative.
  const directBase =
    memoryStart === undefined ? undefined : -(1n << BigInt(linkedBits)) - BigInt.asIntN(64, memoryStart);
  return {
    machine: "aarch64",
    mode: arm64Paging(pageShift, addressBits),
    pageBytes,
    root: Number(root),
    imageOffset,
    directBase,
  };
}

/**
 * Checks whether the text belongs to this memory's kernel: the page tables must translate `_stext` according to the image's
 * offset, and the release in `init_uts_ns`, or in `linux_banner` if that is overwritten, must be the same. A copy from an
 * earlier boot fails the check.
 */
export function checkMachine(
  memory: PhysicalMemory,
  machine: Machine,
  info: Vmcoreinfo,
): PageTables | Refusal {
  const tables = new PageTables(memory, machine.mode, machine.root);
  const start = info.symbol("_stext");
  if (start === undefined) return "it does not have _stext";
  const { hi, lo } = fromBigInt(start);
  const translated = tables.translate(hi, lo);
  if (translated < 0)
    return `the page tables at 0x${machine.root.toString(16)} do not map _stext (${hex(hi, lo)}, ended at ${tables.level})`;
  if (BigInt(translated) !== start - machine.imageOffset)
    return `the page tables map _stext (${hex(hi, lo)}) to 0x${translated.toString(16)}, which is not the kernel's address`;
  return checkRelease(memory, machine, info) ?? tables;
}

/** include/uapi/linux/utsname.h: `struct new_utsname`, six strings of 65 bytes; the release is the third. */
const UTS_FIELD_BYTES = 65;
const UTS_FIELDS = { system: 0, release: 2, version: 3 } as const;

/** Limit on the search for linux_banner from `_stext`: the images of distributions have 30 to 60 MiB with all their data. */
const MAX_IMAGE_BYTES = 128 * 2 ** 20;

/** The kernel's release and version, and the variable that has them. */
export interface KernelNames {
  /** `uname -r`. setarch's personality can change the output of uname, but not this value (kernel/sys.c, override_release). */
  readonly release: string;
  /** `uname -v`. */
  readonly version: string;
  readonly from: "init_uts_ns" | "linux_banner";
}

/** Reads them from `init_uts_ns`, or from `linux_banner` if it is overwritten or not known; undefined if neither has them. */
export function kernelNames(
  memory: PhysicalMemory,
  machine: Pick<Machine, "imageOffset">,
  info: Vmcoreinfo,
): KernelNames | undefined {
  const at = info.symbol("init_uts_ns");
  const names = at === undefined ? undefined : readUtsName(memory, Number(at - machine.imageOffset), info);
  if (names?.system === "Linux") return { ...names, from: "init_uts_ns" };
  const start = Number(info.symbol("_stext")! - machine.imageOffset);
  const banner = findBanner(memory, start, start + MAX_IMAGE_BYTES);
  return banner && { ...banner, from: "linux_banner" };
}

function checkRelease(memory: PhysicalMemory, machine: Machine, info: Vmcoreinfo): Refusal | undefined {
  const names = kernelNames(memory, machine, info);
  if (names === undefined)
    return `init_uts_ns does not hold "Linux", and the kernel's image has no linux_banner`;
  return names.release === info.release ? undefined : `${names.from} holds the release "${names.release}"`;
}

/** Reads `init_uts_ns.name`; undefined if it is not in the image. */
function readUtsName(
  memory: PhysicalMemory,
  physical: number,
  info: Vmcoreinfo,
): Readonly<Record<keyof typeof UTS_FIELDS, string>> | undefined {
  const bytes = new Uint8Array(6 * UTS_FIELD_BYTES);
  const offset = utsNameOffset(memory, physical, info);
  if (!(offset >= 0 && offset < 4096) || memory.copyOut(physical + offset, bytes) < bytes.length)
    return undefined;
  const field = (index: number): string => {
    const text = Buffer.from(bytes.subarray(index * UTS_FIELD_BYTES, (index + 1) * UTS_FIELD_BYTES));
    const end = text.indexOf(0);
    return text.toString("utf8", 0, end < 0 ? text.length : end);
  };
  return {
    system: field(UTS_FIELDS.system),
    release: field(UTS_FIELDS.release),
    version: field(UTS_FIELDS.version),
  };
}

/** Before 5.11 the names follow a reference count, which VMCOREINFO does not show (include/linux/utsname.h). */
export function utsNameOffset(
  memory: PhysicalMemory,
  physical: number,
  info: Vmcoreinfo | undefined,
): number {
  const offset = info?.number("OFFSET(uts_namespace.name)");
  if (offset !== undefined) return Number(offset);
  const head = new Uint8Array(SYSTEM_NAME.length);
  return (
    [0, 4].find((at) => memory.copyOut(physical + at, head) === head.length && SYSTEM_NAME.equals(head)) ?? 0
  );
}

const SYSTEM_NAME = Buffer.from("Linux\0", "latin1");
