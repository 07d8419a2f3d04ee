/**
 * The formats of memory files, one row each. A new format is one file, which exports a `FormatReader`, and one row here:
 * `--format`, its help and its completion come from the names in this table.
 */
import { FormatError, UsageError } from "../../errors.ts";
import type { DataFile, ReadableFile } from "./file.ts";
import type { Contents, Format } from "./format.ts";
import type { OnUnpack } from "./temporary.ts";

/** RFC 8878: a frame (3.1.1), and the 16 kinds of frame to skip (3.1.2). */
const ZSTD_MAGIC: readonly string[] = [
  "\x28\xb5\x2f\xfd",
  ...Array.from({ length: 16 }, (_, n) => `${String.fromCharCode(0x50 + n)}\x2a\x4d\x18`),
];

/** Examined in this order. Raw memory is what is left. */
const FORMATS: readonly Format[] = [
  {
    name: "elf",
    what: "an ELF file",
    magic: ["\x7fELF"],
    load: () => (require("./core.ts") as typeof import("./core.ts")).elfCore,
  },
  {
    name: "zstd",
    what: "a zstd file",
    magic: ZSTD_MAGIC,
    load: () => (require("./zstd-file.ts") as typeof import("./zstd-file.ts")).zstdFile,
  },
  {
    name: "kdump",
    what: "a compressed kdump file",
    magic: ["KDUMP   ", "DISKDUMP"],
    load: () => (require("./kdump.ts") as typeof import("./kdump.ts")).kdump,
  },
  {
    name: "flat",
    what: "a flattened kdump file",
    magic: ["makedumpfile"],
    load: () => (require("./flattened.ts") as typeof import("./flattened.ts")).flattened,
  },
  {
    name: "qemu",
    what: "a QEMU migration stream",
    magic: ["QEVM"],
    load: () => (require("./migration.ts") as typeof import("./migration.ts")).migration,
  },
  {
    name: "libvirt",
    what: "a libvirt save file",
    magic: ["LibvirtQemudSave", "LibvirtQemudPart"],
    load: () => (require("./libvirt.ts") as typeof import("./libvirt.ts")).libvirt,
  },
  {
    name: "lime",
    what: "a LiME dump",
    magic: ["EMiL"],
    load: () => (require("./lime.ts") as typeof import("./lime.ts")).lime,
  },
  {
    name: "avml",
    what: "a compressed dump of AVML",
    magic: ["AVML"],
    load: () => (require("./avml.ts") as typeof import("./avml.ts")).avml,
  },
  {
    name: "vmware",
    what: "a state of VMware",
    magic: ["\xd2\xbe\xd2\xbe", "\xd3\xbe\xd3\xbe", "\xd1\xba\xd1\xba", "\xd2\xba\xd2\xba"],
    load: () => (require("./vmware.ts") as typeof import("./vmware.ts")).vmware,
  },
  {
    name: "gzip",
    what: "a gzip file",
    magic: ["\x1f\x8b\x08"],
    load: () => (require("./gzip-file.ts") as typeof import("./gzip-file.ts")).gzipFile,
  },
  {
    name: "xz",
    what: "an xz file",
    magic: ["\xfd7zXZ\0"],
    load: () => (require("./xz-file.ts") as typeof import("./xz-file.ts")).xzFile,
  },
  {
    name: "lz4",
    what: "an lz4 file",
    magic: ["\x04\x22\x4d\x18"],
    load: () => (require("./lz4-file.ts") as typeof import("./lz4-file.ts")).lz4File,
  },
  {
    name: "bzip2",
    what: "a bzip2 file",
    magic: ["BZh"],
    load: () => (require("./bzip2-file.ts") as typeof import("./bzip2-file.ts")).bzip2File,
  },
  {
    name: "lzop",
    what: "an lzop file",
    magic: ["\x89LZO\0\r\n\x1a\n"],
    load: () => (require("./lzop-file.ts") as typeof import("./lzop-file.ts")).lzopFile,
  },
];

const RAW = "raw";

/** What `--format` takes, in the order of the table. */
export const FORMAT_NAMES: readonly string[] = [RAW, ...FORMATS.map(({ name }) => name)];

/** A file's format, and what its headers say. */
export interface Told {
  /** What the pieces lie in: the file itself, what it was decompressed to, or its pages as they are read. */
  readonly memory: DataFile;
  /** undefined: it is raw memory, all of it. */
  readonly contents: Contents | undefined;
  /** What was opened on the way, and is to be closed. */
  readonly opened: readonly ReadableFile[];
  /** Formats that the file begins like and is not of, as sentences. */
  readonly doubts: readonly string[];
}

/** A compressed file in a compressed file, and no deeper. */
const MAX_LAYERS = 3;

/**
 * Tells the format of a file by its content, or takes the one that is `named`. Throws `UsageError` where no format has
 * that name, `KtstrError` where the file is of a format and cannot be read.
 */
export function tellFormat(file: ReadableFile, named?: string, onUnpack?: OnUnpack): Told {
  if (named !== undefined) checkFormatName(named);
  let current: ReadableFile = file;
  const files: ReadableFile[] = [];
  const doubts: string[] = [];
  for (let layer = 0; layer < MAX_LAYERS; layer++) {
    const format = layer === 0 && named !== undefined ? byName(named) : byContent(current, doubts);
    if (format === undefined && isInPlace(current)) {
      const contents = named === RAW ? undefined : vmemContents(current);
      return { memory: current, contents, opened: files, doubts };
    }
    if (format === undefined)
      throw new FormatError(`memory file ${file.path}`, 0, "what is in it is no dump", doubts.join(" "));
    const opened = format.load().open(current, onUnpack);
    if ("pieces" in opened) return { ...placed(opened, current), opened: files, doubts };
    files.push(opened);
    current = opened;
  }
  throw new FormatError(`memory file ${file.path}`, 0, `it is compressed more than ${MAX_LAYERS} times`);
}

const isInPlace = (file: ReadableFile): file is DataFile => "window" in file;

/** What VMware's file beside a .vmem says. */
function vmemContents(file: DataFile): Contents | undefined {
  if (!file.path.endsWith(".vmem")) return undefined;
  return (require("./vmware.ts") as typeof import("./vmware.ts")).besideVmem(file);
}

/** Gives the pieces of a file that can only be read a place to be read into. */
function placed(contents: Contents, file: ReadableFile): Pick<Told, "memory" | "contents"> {
  if (contents.memory !== undefined) return { memory: contents.memory, contents };
  if (isInPlace(file)) return { memory: file, contents };
  const { OnDemandFile } = require("./on-demand.ts") as typeof import("./on-demand.ts");
  const { ReadPages } = require("./read-pages.ts") as typeof import("./read-pages.ts");
  const memory = new OnDemandFile(new ReadPages(file, contents.pieces));
  return { memory, contents: { ...contents, pieces: memory.pieces } };
}

/** Throws `UsageError` where no format has that name. */
export function checkFormatName(name: string): void {
  if (FORMAT_NAMES.includes(name)) return;
  throw new UsageError(`--format ${JSON.stringify(name)}: there is no such format`, {
    hint: `there are: ${FORMAT_NAMES.join(", ")}`,
  });
}

const byName = (name: string): Format | undefined => FORMATS.find((format) => format.name === name);

function byContent(file: ReadableFile, doubts: string[]): Format | undefined {
  for (const format of beginningWith(file.read(0, 16))) {
    const problem = format.load().problem(file);
    if (problem === undefined) return format;
    doubts.push(
      `${file.path} begins like ${format.what} and was read as raw memory: ${problem} (--format ${format.name} overrides)`,
    );
  }
  return undefined;
}

function beginningWith(head: Uint8Array): Format[] {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 16)).toString("latin1");
  return FORMATS.filter(({ magic }) => magic.some((bytes) => text.startsWith(bytes)));
}
