/**
 * The table of memory file formats, and their detection. To add a format, write one file that exports a `FormatReader`
 * and add one row here. `--format`, its help and its completion use the names in this table.
 */
import { FormatError, UsageError } from "../../errors.ts";
import type { DataFile, ReadableFile } from "./file.ts";
import type { Contents, Format } from "./format.ts";
import type { OnUnpack } from "./temporary.ts";

/** RFC 8878: a frame (3.1.1), and the 16 kinds of skippable frames (3.1.2). */
const ZSTD_MAGIC: readonly string[] = [
  "\x28\xb5\x2f\xfd",
  ...Array.from({ length: 16 }, (_, n) => `${String.fromCharCode(0x50 + n)}\x2a\x4d\x18`),
];

/** Checked in this order. A file that matches none is raw memory. */
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
    what: "a compressed AVML dump",
    magic: ["AVML"],
    load: () => (require("./avml.ts") as typeof import("./avml.ts")).avml,
  },
  {
    name: "vmware",
    what: "a VMware state file",
    magic: [
      "\xd2\xbe\xd2\xbe",
      "\xd3\xbe\xd3\xbe",
      "\xd1\xba\xd1\xba",
      "\xd2\xba\xd2\xba",
      // 32-bit: crash has the first, Volatility the second.
      "\xd0\xbe\xd0\xbe",
      "\xd0\xbe\xd2\xbe",
    ],
    load: () => (require("./vmware.ts") as typeof import("./vmware.ts")).vmware,
  },
  {
    name: "firecracker",
    what: "a Firecracker state file",
    // x86-64 and arm64, by serde (0) and by versionize (1).
    magic: [
      "\0\0\x64\x86\x84\x19\x10\x07",
      "\x01\0\x64\x86\x84\x19\x10\x07",
      "\0\0\xaa\xaa\x84\x19\x10\x07",
      "\x01\0\xaa\xaa\x84\x19\x10\x07",
    ],
    load: () => (require("./firecracker.ts") as typeof import("./firecracker.ts")).firecracker,
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

/** The values of `--format`, in the table's order. */
export const FORMAT_NAMES: readonly string[] = [RAW, ...FORMATS.map(({ name }) => name)];

/** A file's format and the contents of its headers. */
export interface DetectedFormat {
  /** The file that the pieces refer to: the original file, a decompressed copy, or pages that are read on demand. */
  readonly memory: DataFile;
  /** Undefined if the whole file is raw memory. */
  readonly contents: Contents | undefined;
  /** Intermediate files. The caller closes them. */
  readonly opened: readonly ReadableFile[];
  /** Sentences that say which formats the file resembles, and why they were rejected. */
  readonly doubts: readonly string[];
}

/** Limit on nested compression. */
const MAX_LAYERS = 3;

/**
 * Detects the format of a file from its contents, or uses the format `named`. Throws `UsageError` if there is no format
 * with that name, `KtstrError` if the file cannot be read in its format.
 */
export function detectFormat(file: ReadableFile, named?: string, onUnpack?: OnUnpack): DetectedFormat {
  if (named !== undefined) checkFormatName(named);
  let current: ReadableFile = file;
  const files: ReadableFile[] = [];
  const doubts: string[] = [];
  for (let layer = 0; layer < MAX_LAYERS; layer++) {
    const format = layer === 0 && named !== undefined ? byName(named) : byContent(current, doubts);
    if (format === undefined && isInPlace(current)) {
      const contents = named === RAW ? undefined : contentsBeside(current);
      return { memory: current, contents, opened: files, doubts };
    }
    if (format === undefined)
      throw new FormatError(
        `memory file ${file.path}`,
        0,
        "its contents are not a memory dump",
        doubts.join(" "),
      );
    const opened = format.load().open(current, onUnpack);
    if ("pieces" in opened) return { ...withMemory(opened, current), opened: files, doubts };
    files.push(opened);
    current = opened;
  }
  throw new FormatError(`memory file ${file.path}`, 0, `it is compressed more than ${MAX_LAYERS} times`);
}

const isInPlace = (file: ReadableFile): file is DataFile => "window" in file;

/** Returns the memory layout from the state file next to a VMware or Cloud Hypervisor memory file. */
function contentsBeside(file: DataFile): Contents | undefined {
  if (file.path.endsWith(".vmem"))
    return (require("./vmware.ts") as typeof import("./vmware.ts")).contentsOfVmem(file);
  if (file.path.endsWith("memory-ranges"))
    return (require("./cloud-hypervisor.ts") as typeof import("./cloud-hypervisor.ts")).contentsOfRanges(
      file,
    );
  return undefined;
}

/** Adds the file that the pieces refer to. A file that can be read but not mapped is read on demand. */
function withMemory(contents: Contents, file: ReadableFile): Pick<DetectedFormat, "memory" | "contents"> {
  if (contents.memory !== undefined) return { memory: contents.memory, contents };
  if (isInPlace(file)) return { memory: file, contents };
  const { OnDemandFile } = require("./on-demand.ts") as typeof import("./on-demand.ts");
  const { ReadPages } = require("./read-pages.ts") as typeof import("./read-pages.ts");
  const memory = new OnDemandFile(new ReadPages(file, contents.pieces));
  return { memory, contents: { ...contents, pieces: memory.pieces } };
}

/** Throws `UsageError` if there is no format with that name. */
export function checkFormatName(name: string): void {
  if (FORMAT_NAMES.includes(name)) return;
  throw new UsageError(`--format ${JSON.stringify(name)}: unknown format`, {
    hint: `The formats are: ${FORMAT_NAMES.join(", ")}.`,
  });
}

const byName = (name: string): Format | undefined => FORMATS.find((format) => format.name === name);

function byContent(file: ReadableFile, doubts: string[]): Format | undefined {
  for (const format of withMagic(file.read(0, 16))) {
    const problem = format.load().problem(file);
    if (problem === undefined) return format;
    doubts.push(
      `${file.path} starts like ${format.what} but was read as raw memory: ${problem} (--format ${format.name} overrides)`,
    );
  }
  return undefined;
}

function withMagic(head: Uint8Array): Format[] {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 16)).toString("latin1");
  return FORMATS.filter(({ magic }) => magic.some((bytes) => text.startsWith(bytes)));
}
