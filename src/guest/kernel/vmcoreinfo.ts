/**
 * Parses VMCOREINFO, the text with which a kernel describes itself to crash tools (kernel/vmcore_info.c, before 6.9
 * kernel/crash_core.c). It starts at a page, and a copy is in an ELF note that starts at a page too.
 */
import type { MemoryImage } from "../image/image.ts";

/** "OSRE" and "LEASE=": the first bytes of the page. */
const OSRE = 0x4552_534f;
const TEXT_START = "OSRELEASE=";
/** The note's first word: the length of "VMCOREINFO" with its NUL. The content starts at byte 24. */
const NOTE_NAME_SIZE = 11;
const NOTE_START = "VMCOREINFO\0";
const NOTE_HEADER_BYTES = 24;
/** VMCOREINFO_BYTES is one page of at most 64 KiB; the text has 3 to 4 KiB. */
const MAX_TEXT_BYTES = 16_384;
/** Limit on copies. A few are normal (an earlier boot's, a file's in the page cache); hundreds are hostile. */
const MAX_CANDIDATES = 64;

/** The parsed text. Addresses are link addresses with KASLR applied, as in the running kernel. */
export interface Vmcoreinfo {
  /** Physical address in the layout at the time of the search; undefined for an ELF core's note. */
  readonly physical: number | undefined;
  /** Whether the text was built from the kernel's symbol table (rebuilt.ts), because it is not in memory. */
  readonly isRebuilt: boolean;
  /** The kernel's text as Latin-1. */
  readonly text: string;
  readonly release: string;
  /** Hexadecimal; "" if the kernel has none. */
  readonly buildId: string;
  /** `SYMBOL(name)`: an address. */
  symbol(name: string): bigint | undefined;
  /** `NUMBER(name)`, `OFFSET(name)`, `LENGTH(name)` and `SIZE(name)` by their full key, and plain keys ("PAGESIZE"). */
  number(key: string): bigint | undefined;
}

/** Parses the text up to its NUL; undefined if it does not start like VMCOREINFO. */
export function parseVmcoreinfo(
  bytes: Uint8Array,
  physical: number | undefined,
  isRebuilt = false,
): Vmcoreinfo | undefined {
  const head = bytes.subarray(0, MAX_TEXT_BYTES);
  const end = head.indexOf(0);
  const text = Buffer.from(end < 0 ? head : head.subarray(0, end)).toString("latin1");
  if (!text.startsWith(TEXT_START)) return undefined;
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0 && !values.has(line.slice(0, at))) values.set(line.slice(0, at), line.slice(at + 1));
  }
  return {
    physical,
    isRebuilt,
    text,
    release: values.get("OSRELEASE") ?? "",
    buildId: values.get("BUILD-ID") ?? "",
    symbol: (name) => parseHex(values.get(`SYMBOL(${name})`)),
    // The kernel prints this value in hexadecimal without a prefix.
    number: (key) => (key === "KERNELOFFSET" ? parseHex(values.get(key)) : parseNumber(values.get(key))),
  };
}

function parseHex(text: string | undefined): bigint | undefined {
  return text !== undefined && /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined;
}

function parseNumber(text: string | undefined): bigint | undefined {
  if (text === undefined || !/^(-?[0-9]{1,20}|0x[0-9a-f]{1,16})$/i.test(text)) return undefined;
  return text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text);
}

/**
 * Searches the image for the text by the first word of each page, and passes candidates to `accept` in the image's order until
 * it returns true. Returns the number of candidates.
 */
export function searchVmcoreinfo(
  image: MemoryImage,
  accept: (candidate: Vmcoreinfo) => boolean,
  onProgress?: (done: number, total: number) => void,
): number {
  let offered = 0;
  image.search((view, physical) => {
    const end = view.byteLength - 4095;
    for (let at = 0; at < end; at += 4096) {
      const word = view.getInt32(at, true);
      if (word !== OSRE && word !== NOTE_NAME_SIZE) continue;
      const skip = word === OSRE ? 0 : noteHeader(view, at);
      if (skip < 0) continue;
      const length = Math.min(MAX_TEXT_BYTES, view.byteLength - at - skip);
      const bytes = new Uint8Array(view.buffer, view.byteOffset + at + skip, length);
      const candidate = parseVmcoreinfo(bytes, physical + at + skip);
      if (candidate === undefined) continue;
      offered++;
      if (accept(candidate) || offered >= MAX_CANDIDATES) return true;
    }
    return false;
  }, onProgress);
  return offered;
}

/** Returns the size of the header before the note's content, or -1 if it is another note. */
function noteHeader(view: DataView, at: number): number {
  const name = Buffer.from(view.buffer, view.byteOffset + at + 12, NOTE_START.length).toString("latin1");
  return name === NOTE_START ? NOTE_HEADER_BYTES : -1;
}
