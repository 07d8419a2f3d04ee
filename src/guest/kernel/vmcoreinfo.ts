/**
 * VMCOREINFO: the text that a kernel keeps about itself for crash tools (kernel/vmcore_info.c, before 6.9
 * kernel/crash_core.c). It begins a page of its own, and lies a second time in an ELF note that begins one too.
 */
import type { MemoryImage } from "../image/image.ts";

/** "OSRE" and "LEASE=", as a page's first bytes. */
const OSRE = 0x4552_534f;
const TEXT_START = "OSRELEASE=";
/** The note's first word: the length of "VMCOREINFO" with its NUL; its content follows 24 bytes in. */
const NOTE_NAME_SIZE = 11;
const NOTE_START = "VMCOREINFO\0";
const NOTE_HEADER_BYTES = 24;
/** VMCOREINFO_BYTES is one page of at most 64 KiB; the text has been 3 to 4 KiB for years. */
const MAX_TEXT_BYTES = 16_384;
/** Copies lie about (an earlier boot's, a file's in the page cache); hundreds mean that somebody made them. */
const MAX_CANDIDATES = 64;

/** What the text says. Addresses are link addresses with KASLR applied, as the running kernel's are. */
export interface Vmcoreinfo {
  /** Where it was found, physical as the image was laid out at that time; undefined: in an ELF core's note. */
  readonly physical: number | undefined;
  /** Made from the kernel's symbol table (rebuilt.ts), for it lies nowhere in the memory. */
  readonly isRebuilt: boolean;
  /** As the kernel wrote it, a character a byte. */
  readonly text: string;
  readonly release: string;
  /** Hexadecimal; "" where the kernel has none. */
  readonly buildId: string;
  /** `SYMBOL(name)`: an address. */
  symbol(name: string): bigint | undefined;
  /** `NUMBER(name)`, `OFFSET(name)`, `LENGTH(name)`, `SIZE(name)` by their whole key, and bare keys ("PAGESIZE"). */
  number(key: string): bigint | undefined;
}

/** Reads the text up to its NUL; undefined if it does not start as one. */
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
    // The kernel prints this one in hexadecimal without saying so.
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
 * Searches the image's data for the text, a word a page, and offers what it finds in the image's order until
 * `accept` takes one. Returns how many were offered.
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

/** The bytes before the note's content, or -1 if it is another note. */
function noteHeader(view: DataView, at: number): number {
  const name = Buffer.from(view.buffer, view.byteOffset + at + 12, NOTE_START.length).toString("latin1");
  return name === NOTE_START ? NOTE_HEADER_BYTES : -1;
}
