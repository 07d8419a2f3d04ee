/**
 * Reads the files of libvirt's `virsh save`: a header, the domain's XML, and QEMU's migration stream, which can be
 * compressed (libvirt's src/qemu/qemu_saveimage.h, struct _virQEMUSaveHeader).
 */
import { FormatError } from "../../errors.ts";
import { viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";

/** @public Loaded by formats.ts. */
export const libvirt: FormatReader = { problem, open };

/** magic[16], version, data_len, was_running, format, cookieOffset, unused[14]; u32 in the writer's byte order. */
const HEADER_BYTES = 92;
const VERSION_AT = 16;
const DATA_LEN_AT = 20;
const FORMAT_AT = 28;
const COMPLETE = "LibvirtQemudSave";
const MAX_VERSION = 3;
/** Limit on the domain's XML and libvirt's cookie. */
const MAX_DATA_BYTES = 64 * 2 ** 20;
/**
 * The largest known `format`. 0 is an uncompressed stream, 1 to 5 are gzip, bzip2, xz, lzop and zstd, and 6 is a stream
 * with mapped-ram ("sparse"). The value is not used otherwise: the format of the stream is detected.
 */
const MAX_FORMAT = 6;
const LESS_THAN = 0x3c;

interface Header {
  readonly format: number;
  readonly streamAt: number;
}

function headerOf(file: ReadableFile): Header | string {
  const bytes = file.read(0, HEADER_BYTES);
  const view = viewOf(bytes);
  if (view.byteLength < HEADER_BYTES) return "it ends within the header";
  const version = view.getUint32(VERSION_AT, true);
  if (version === 0 || version > MAX_VERSION) return `its version is ${version}`;
  const length = view.getUint32(DATA_LEN_AT, true);
  const streamAt = HEADER_BYTES + length;
  if (length === 0 || length > MAX_DATA_BYTES || streamAt >= file.sizeBytes)
    return `its XML has ${length} bytes, but the file has ${file.sizeBytes}`;
  // The XML is a C string, padded with zeros.
  if (file.read(HEADER_BYTES, 1)[0] !== LESS_THAN || file.read(streamAt - 1, 1)[0] !== 0)
    return "no XML follows its header";
  return { format: view.getUint32(FORMAT_AT, true), streamAt };
}

function problem(file: ReadableFile): string | undefined {
  const header = headerOf(file);
  return typeof header === "string" ? header : undefined;
}

function open(file: ReadableFile): ReadableFile {
  const what = `libvirt save file ${file.path}`;
  const header = headerOf(file);
  if (typeof header === "string") throw new FormatError(what, 0, header);
  if (Buffer.from(file.read(0, COMPLETE.length)).toString("latin1") !== COMPLETE)
    throw new FormatError(what, 0, "it was not written completely");
  const { format, streamAt } = header;
  if (format <= MAX_FORMAT) return new FileTail(file, streamAt);
  throw new FormatError(
    what,
    FORMAT_AT,
    `its stream has the unsupported format ${format}`,
    'Save it with `save_image_format = "raw"` in libvirt\'s qemu.conf.',
  );
}

/** The part of a file from an offset to its end. */
class FileTail implements ReadableFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #file: ReadableFile;
  readonly #start: number;

  constructor(file: ReadableFile, start: number) {
    this.path = file.path;
    this.sizeBytes = file.sizeBytes - start;
    this.#file = file;
    this.#start = start;
  }

  check(): void {
    this.#file.check();
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#file.read(this.#start + offset, length);
  }

  [Symbol.dispose](): void {}
}
