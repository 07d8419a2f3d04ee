import { constants, zstdCompressSync } from "node:zlib";
import { KtstrError, UsageError } from "../errors.ts";
import { type Capture, type CaptureSummary, captureGuest } from "../guest/capture/capture.ts";
import { CAPTURE_PAGE_BYTES } from "../guest/capture/pages.ts";
import { stringify } from "../report/json.ts";
import { sizeText } from "../report/units.ts";
import type { MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { guestOptions } from "./source.ts";
import { writeWholeFile } from "./whole-file.ts";

const capture: Command = command({
  name: "ktstr capture",
  description: "Keep all BPF state of a frozen machine in one small file",
  options: ["output", "force", "zstd", "maps", "no-values"],
  grammar: "",
  examples: [
    "ktstr capture --memory mem -o stall.vmcore.zst",
    "ktstr capture --memory mem -o stall.vmcore --maps scx_flatcg.bss,cgrp_ctx",
    "ktstr inspect --memory stall.vmcore.zst",
  ],
  start(context) {
    const { options, words, out } = context;
    if (words.length > 0) throw new UsageError(`capture: too much: ${words.join(" ")}`);
    const path = options.own["output"];
    if (typeof path !== "string" || path === "")
      throw new UsageError("capture: into which file? -o FILE", { hint: "-o FILE.zst compresses it." });
    if (options.memory.length === 0) throw noMemory();
    const filter = new MapFilter(options.own["maps"], options.own["no-values"] === true);
    using made = captureGuest({ ...guestOptions(options), keep: filter.keep });
    filter.check();
    const isCompressed = path.endsWith(".zst") || options.own["zstd"] === true;
    const pieces = isCompressed ? [compressed(made)] : made.pieces();
    let fileBytes = 0;
    writeWholeFile(
      path,
      counted(pieces, (size) => (fileBytes += size)),
      options.own["force"] === true,
    );
    for (const warning of made.summary.warnings) context.warn(warning);
    if (options.json) out.line(stringify(summaryJson(path, fileBytes, made.summary), indentOf(context)));
    else for (const line of summaryText(path, fileBytes, made.summary)) out.line(line);
    return 0;
  },
});

export default capture;

/** A running kernel shows its answers and not its memory: pages of it are nothing that bpf(2) could give. */
function noMemory(): UsageError {
  return new UsageError("capture: of which machine? --memory FILE", {
    hint: "a capture is made of pages of physical memory, and a running kernel hands those out to nobody: freeze a virtual machine and dump its memory (QEMU's dump-guest-memory, `virsh dump --memory-only`), or give kdump's vmcore; `ktstr -j inspect` keeps a running kernel's answers",
  });
}

/** `--maps a,b,12` and `--no-values`: the maps whose contents go in. */
class MapFilter {
  readonly keep: ((map: MapInfo) => boolean) | undefined;
  readonly #unseen: Set<string> = new Set();

  constructor(names: string | boolean | undefined, noValues: boolean) {
    if (names !== undefined && noValues)
      throw new UsageError("capture: --maps and --no-values: one or the other");
    if (noValues) this.keep = () => false;
    if (typeof names !== "string") return;
    const words = names.split(",").filter((word) => word !== "");
    if (words.length === 0) throw new UsageError("--maps: which ones? Names or ids, with commas between");
    this.#unseen = new Set(words);
    this.keep = ({ id, name }) =>
      words
        .filter((word) => word === String(id) || Buffer.from(word).equals(name))
        .map((word) => this.#unseen.delete(word)).length > 0;
  }

  /** After the maps were listed. Throws `KtstrError` where there is none of a name. */
  check(): void {
    const [word] = this.#unseen;
    if (word === undefined) return;
    throw new KtstrError(`capture: no map has the name or id ${JSON.stringify(word)}`, {
      hint: "`ktstr map show` lists them",
    });
  }
}

/** Of what zstd makes 2 ms a MiB at; higher levels take three times as long for a tenth less. */
const ZSTD_LEVEL = 6;
const MAX_COMPRESSED_BYTES = 2 ** 31;

function compressed(made: Capture): Uint8Array {
  if (made.sizeBytes > MAX_COMPRESSED_BYTES)
    throw new KtstrError(`compress a capture of ${sizeText(made.sizeBytes)}: it is too large for that`, {
      hint: "Write it without .zst, and compress it with zstd.",
    });
  const params = { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL, [constants.ZSTD_c_checksumFlag]: 1 };
  return zstdCompressSync(Buffer.concat([...made.pieces()]), { params });
}

function* counted(pieces: Iterable<Uint8Array>, tell: (size: number) => void): Generator<Uint8Array> {
  for (const piece of pieces) {
    yield piece;
    tell(piece.length);
  }
}

function summaryText(path: string, fileBytes: number, summary: CaptureSummary): string[] {
  const { kernel, pages, memoryBytes, maps, mapsWithContents, elements } = summary;
  const contents =
    mapsWithContents === maps ? "all with their contents" : `${mapsWithContents} with their contents`;
  return [
    `${printable(Buffer.from(path))}  ${sizeText(fileBytes)}`,
    `  ${pages} pages (${sizeText(pages * CAPTURE_PAGE_BYTES)}) of ${sizeText(memoryBytes)} of memory`,
    `  kernel ${printable(Buffer.from(kernel.release))}, ${summary.symbols} symbols, ${summary.btfs} BTF objects`,
    `  ${maps} maps, ${contents} (${elements} elements), ${summary.progs} programs, ${summary.links} links`,
  ];
}

function summaryJson(
  path: string,
  fileBytes: number,
  summary: CaptureSummary,
): Record<string, string | number> {
  const { kernel, warnings: _warnings, ...counts } = summary;
  return { file: path, file_bytes: fileBytes, release: kernel.release, ...snakeCase(counts) };
}

function snakeCase(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counts).map(([name, count]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      count,
    ]),
  );
}
