/**
 * Reads QEMU migration streams from files: `migrate "exec:cat > FILE"`, `migrate file:FILE`. The RAM section starts with a
 * list of memory blocks. Pages follow in any order, and a page that changed during the migration is sent again (with
 * mapped-ram the pages follow each block: mapped-ram.ts). The pages are indexed once and read from the file on demand. The
 * stream does not contain physical addresses.
 */
import { basename } from "node:path";
import { FormatError } from "../../errors.ts";
import { escapeText } from "../../text.ts";
import {
  QEMU_VM_COMMAND,
  QEMU_VM_CONFIGURATION,
  QEMU_VM_FILE_VERSION,
  QEMU_VM_SECTION_END,
  QEMU_VM_SECTION_FOOTER,
  QEMU_VM_SECTION_PART,
  QEMU_VM_SECTION_START,
  QEMU_VM_SUBSECTION,
  RAM_SAVE_FLAG_COMPRESS_PAGE,
  RAM_SAVE_FLAG_CONTINUE,
  RAM_SAVE_FLAG_EOS,
  RAM_SAVE_FLAG_MEM_SIZE,
  RAM_SAVE_FLAG_MULTIFD_FLUSH,
  RAM_SAVE_FLAG_PAGE,
  RAM_SAVE_FLAG_XBZRLE,
  RAM_SAVE_FLAG_ZERO,
} from "../../uapi/qemu-migration.ts";
import type { ReadableFile } from "./file.ts";
import type { Contents, FormatReader } from "./format.ts";
import { type MappedBlock, placesOf, readMappedBlock } from "./mapped-ram.ts";
import { OnDemandFile, type PageRange, type PageSource } from "./on-demand.ts";
import { StreamEnd, StreamReader, UnsupportedStream } from "./stream-reader.ts";

/** @public Loaded by formats.ts. */
export const migration: FormatReader = { problem, open };

/** A machine has about a dozen: RAM, video memory, ROMs. */
const MAX_BLOCKS = 4096;
/** Size of the smallest page record: the offset of a page, and the byte that fills it. */
const MIN_PAGE_RECORD_BYTES = 9;
const MAX_NAME_BYTES = 255;
const MAX_CAPABILITIES = 64;
const MAPPED_RAM = "mapped-ram";

interface Block {
  readonly name: string;
  readonly length: number;
  readonly mapped: MappedBlock | undefined;
}

interface Header {
  /** "pc-q35-7.2"; "" if an old machine sends none. */
  readonly machine: string;
  readonly pageBytes: number;
  readonly capabilities: readonly string[];
  readonly ramSection: number;
  readonly blocks: readonly Block[];
}

const nameOf = (file: ReadableFile): string => `migration stream ${file.path}`;

/** Number of pages to read when detecting the format: raw memory can start with the first page of a stream. */
const PROBE_PAGES = 64;

function problem(file: ReadableFile): string | undefined {
  const stream = new StreamReader(file, nameOf(file));
  try {
    const header = readHeader(stream);
    const index = new PageIndex(stream, header, file.sizeBytes);
    index.read(PROBE_PAGES);
    return index.pageCount > 0 || header.capabilities.length > 0 ? undefined : "it holds no page of memory";
  } catch (error) {
    if (error instanceof UnsupportedStream) return undefined;
    if (error instanceof FormatError) return error.problem;
    throw error;
  }
}

function open(file: ReadableFile): Contents {
  const stream = new StreamReader(file, nameOf(file));
  const header = readHeader(stream);
  const index = new PageIndex(stream, header, file.sizeBytes);
  const isWhole = index.read();
  index.placeMapped(file);
  // Bitmaps are written last. Without them it is unknown which pages are zeros.
  if (!isWhole && header.capabilities.includes(MAPPED_RAM))
    throw stream.error("it ends before its bitmaps were written", "Save it again.");
  if (index.pageCount === 0) throw missing(stream, header, "it holds no page of memory");
  const warnings = isWhole
    ? []
    : [`${basename(file.path)} is incomplete: it ends before the last page of memory.`];
  const memory = new OnDemandFile(new StreamPages(file, header.pageBytes, index));
  return {
    format: "QEMU migration stream",
    memory,
    pieces: memory.pieces,
    isPlaced: false,
    warnings,
  };
}

/** Returns the error for missing pages: with x-ignore-shared, QEMU omits shared memory. */
function missing(stream: StreamReader, { capabilities }: Header, problem: string): FormatError {
  if (capabilities.length === 0) return stream.error(problem);
  const hint = `It was saved with ${capabilities.join(", ")}. Give the file that holds the memory.`;
  return new UnsupportedStream(stream.what, stream.at, problem, hint);
}

/** migration/savevm.c: qemu_savevm_state_header, then the start of the first section: migration/ram.c, ram_save_setup. */
function readHeader(stream: StreamReader): Header {
  if (stream.text(4) !== "QEVM") throw stream.error("it does not start with QEVM");
  const version = stream.u32();
  if (version !== QEMU_VM_FILE_VERSION) throw stream.error(`its version is ${version}`);
  let type = stream.u8();
  let machine = "";
  let pageBytes = 4096;
  let capabilities: readonly string[] = [];
  if (type === QEMU_VM_CONFIGURATION) {
    machine = stream.text(lengthOf(stream, stream.u32()));
    if (!/^[\w./+-]+$/.test(machine)) throw stream.error("its configuration has no machine name");
    for (type = stream.u8(); type === QEMU_VM_SUBSECTION; type = stream.u8()) {
      const name = stream.name();
      stream.skip(4);
      if (name === "configuration/target-page-bits") pageBytes = pageBytesOf(stream);
      else if (name === "configuration/capabilities") capabilities = capabilitiesOf(stream);
      else if (name === "configuration/uuid") stream.skip(16);
      else throw stream.error(`its configuration has an unknown subsection ${escapeText(name)}`);
    }
  }
  while (type === QEMU_VM_COMMAND) {
    skipCommand(stream);
    type = stream.u8();
  }
  if (type !== QEMU_VM_SECTION_START) throw stream.error(`its first section has the type ${type}`);
  const ramSection = stream.u32();
  const name = stream.name();
  if (name !== "ram")
    throw stream.error(`its first section is ${escapeText(name)}, not ram`, "Migrate without disks.");
  stream.skip(8);
  return { machine, pageBytes, capabilities, ramSection, blocks: blocksOf(stream, pageBytes, capabilities) };
}

function lengthOf(stream: StreamReader, length: number): number {
  if (length === 0 || length > MAX_NAME_BYTES) throw stream.error(`a name has ${length} bytes`);
  return length;
}

function pageBytesOf(stream: StreamReader): number {
  const bits = stream.u32();
  if (bits < 12 || bits > 16) throw stream.error(`its pages have ${bits} offset bits`);
  return 2 ** bits;
}

function capabilitiesOf(stream: StreamReader): string[] {
  const count = stream.u32();
  if (count > MAX_CAPABILITIES) throw stream.error(`it has ${count} capabilities`);
  return Array.from({ length: count }, () => escapeText(stream.name()));
}

/** Skips a command: its number, the length of its data, and the data. */
function skipCommand(stream: StreamReader): void {
  stream.skip(2);
  stream.skip(stream.u16());
}

function blocksOf(stream: StreamReader, pageBytes: number, capabilities: readonly string[]): Block[] {
  const total = stream.u64();
  const flags = total % 4096;
  if (flags !== RAM_SAVE_FLAG_MEM_SIZE) throw stream.error("its RAM does not start with a list of blocks");
  const blocks: Block[] = [];
  for (let rest = total - flags; rest > 0; rest -= blocks.at(-1)!.length) {
    if (blocks.length === MAX_BLOCKS) throw stream.error(`its RAM has more than ${MAX_BLOCKS} blocks`);
    const [name, length] = [stream.text(lengthOf(stream, stream.u8())), stream.u64()];
    if (length === 0 || length > rest)
      throw stream.error(`the sizes of its RAM blocks do not add up to ${total - flags} bytes`);
    // The block's address.
    if (capabilities.includes("x-ignore-shared")) stream.skip(8);
    const mapped = capabilities.includes(MAPPED_RAM) ? readMappedBlock(stream, length, pageBytes) : undefined;
    blocks.push({ name, length, mapped });
  }
  if (blocks.length === 0) throw stream.error("it has no blocks of RAM");
  return blocks;
}

/** Marks a page that is not in the file. Offsets of pages are above 0. A page filled with one byte is -1 - byte. */
const ABSENT = 0;

/** Kinds of pages that are not supported, and the capability that enables them. */
const UNSUPPORTED_KINDS: { readonly [flag: number]: string } = {
  [RAM_SAVE_FLAG_COMPRESS_PAGE]: "compress",
  [RAM_SAVE_FLAG_XBZRLE]: "xbzrle",
};

/** The places of the pages in the largest block, which is the machine's RAM. */
class PageIndex {
  /** For each page: its offset in the file, `ABSENT`, or -1 - byte. */
  readonly places: Float64Array;
  /** Number of page records, of all blocks. */
  pageCount = 0;
  readonly #stream: StreamReader;
  readonly #header: Header;
  readonly #ram: Block;
  readonly #blocks: ReadonlyMap<string, Block>;
  /** The block of the last record. QEMU omits the name if the next record has the same block. */
  #block: Block | undefined;
  /** Whether the current part of the RAM section is the last one. */
  #isLast = false;

  /** Throws `FormatError` if the RAM has more pages than the file can hold. */
  constructor(stream: StreamReader, header: Header, fileBytes: number) {
    this.#stream = stream;
    this.#header = header;
    this.#blocks = new Map(header.blocks.map((block) => [block.name, block]));
    this.#ram = header.blocks.reduce((largest, block) => (block.length > largest.length ? block : largest));
    const { name, length } = this.#ram;
    const count = length / header.pageBytes;
    if (!Number.isInteger(count) || count > fileBytes / MIN_PAGE_RECORD_BYTES)
      throw missing(
        stream,
        header,
        `its block ${escapeText(name)} has ${length} bytes, but the file has ${fileBytes}`,
      );
    this.places = new Float64Array(count);
  }

  /**
   * Reads pages until the end of the RAM section, or until at least `maxPages` were read. Returns false if the file ends
   * first. Throws `FormatError` if the data is not valid.
   */
  read(maxPages: number = Number.POSITIVE_INFINITY): boolean {
    try {
      do this.#pages(maxPages);
      while (this.pageCount < maxPages && this.#section());
      return true;
    } catch (error) {
      if (error instanceof StreamEnd) return false;
      throw error;
    }
  }

  /** Sets the places of pages saved with mapped-ram. Pages that are not in the file are zeros. */
  placeMapped(file: ReadableFile): void {
    const { mapped } = this.#ram;
    if (mapped === undefined) return;
    this.places.fill(-1);
    placesOf(file, mapped, this.#header.pageBytes, (index, offset) => {
      if (index >= this.places.length) return;
      this.places[index] = offset;
      this.pageCount++;
    });
  }

  /** Moves to the pages of the next part of RAM. Returns false if there is none. */
  #section(): boolean {
    const stream = this.#stream;
    while (!this.#isLast) {
      const type = stream.u8();
      if (type === QEMU_VM_SECTION_FOOTER) stream.skip(4);
      else if (type === QEMU_VM_COMMAND) skipCommand(stream);
      else if (type === QEMU_VM_SECTION_PART || type === QEMU_VM_SECTION_END) {
        const section = stream.u32();
        if (section !== this.#header.ramSection) throw this.#unexpected(`section ${section}`);
        this.#isLast = type === QEMU_VM_SECTION_END;
        return true;
      } else if (type === QEMU_VM_SECTION_START) {
        stream.skip(4);
        throw this.#unexpected(`the section ${escapeText(stream.name())}`);
      } else throw this.#unexpected(`a section of type ${type}`);
    }
    return false;
  }

  #unexpected(what: string): FormatError {
    return this.#stream.error(
      `${what} interrupts the RAM section`,
      "Migrate without disks and their bitmaps.",
    );
  }

  /** migration/ram.c, ram_load_precopy. Each iteration consumes bytes of the file, so the loop ends. */
  #pages(maxPages: number): void {
    const stream = this.#stream;
    const { pageBytes } = this.#header;
    while (this.pageCount < maxPages) {
      const word = stream.u64();
      const flags = word % pageBytes;
      if (flags === RAM_SAVE_FLAG_EOS) return;
      if (flags === RAM_SAVE_FLAG_MULTIFD_FLUSH) continue;
      const kind = flags & ~RAM_SAVE_FLAG_CONTINUE;
      if (kind !== RAM_SAVE_FLAG_ZERO && kind !== RAM_SAVE_FLAG_PAGE) throw this.#unsupported(kind);
      if ((flags & RAM_SAVE_FLAG_CONTINUE) === 0) this.#block = this.#blocks.get(stream.name());
      const block = this.#block;
      if (block === undefined) throw stream.error("a page belongs to a block that is not in the list");
      if (word >= block.length)
        throw stream.error(`a page is past the end of the block ${escapeText(block.name)}`);
      const place = kind === RAM_SAVE_FLAG_ZERO ? -1 - stream.u8() : stream.at;
      if (place > 0) stream.skip(pageBytes);
      if (block === this.#ram) this.places[(word - flags) / pageBytes] = place;
      this.pageCount++;
    }
  }

  #unsupported(kind: number): FormatError {
    const capability = UNSUPPORTED_KINDS[kind];
    if (capability === undefined) return this.#stream.error(`a page has the flags 0x${kind.toString(16)}`);
    return new UnsupportedStream(
      this.#stream.what,
      this.#stream.at,
      `its pages were saved with the unsupported capability ${capability}`,
      `Save it again without it: \`migrate_set_capability ${capability} off\`.`,
    );
  }
}

class StreamPages implements PageSource {
  readonly path: string;
  readonly pageBytes: number;
  readonly ranges: readonly PageRange[];
  readonly #file: ReadableFile;
  readonly #places: Float64Array;

  constructor(file: ReadableFile, pageBytes: number, { places }: PageIndex) {
    this.path = file.path;
    this.pageBytes = pageBytes;
    this.#file = file;
    this.#places = places;
    this.ranges = [{ start: 0, end: places.length * pageBytes }];
  }

  check(): void {
    this.#file.check();
  }

  /** Returns false if the stream does not have the page: the guest had freed it (free page hints), or the file is truncated. */
  readPage(offset: number, into: Uint8Array<ArrayBuffer>): boolean {
    const place = this.#places[offset / this.pageBytes]!;
    if (place === ABSENT) return false;
    if (place < 0) {
      into.fill(-1 - place);
      return true;
    }
    const bytes = this.#file.read(place, this.pageBytes);
    if (bytes.length < this.pageBytes) return false;
    into.set(bytes);
    return true;
  }

  [Symbol.dispose](): void {}
}
