import { KtstrError, UsageError } from "../errors.ts";
import { type Capture, captureGuest } from "../guest/capture/capture.ts";
import { compressedFrames } from "../guest/capture/compress.ts";
import { CAPTURE_PAGE_BYTES } from "../guest/capture/pages.ts";
import { MAX_DECOMPRESSED_BYTES } from "../guest/image/zstd.ts";
import { stringify } from "../report/json.ts";
import { countText, sizeText } from "../report/units.ts";
import type { MapInfo } from "../state.ts";
import { escapeText } from "../text.ts";
import { readForCapture } from "./capture-reads.ts";
import { type Command, command } from "./command.ts";
import { countOption } from "./option-values.ts";
import { indentOf } from "./print.ts";
import { guestOptions, isVm, stopVm } from "./source.ts";
import { writeWholeFile } from "./whole-file.ts";

const capture: Command = command({
  name: "ktstr capture",
  description: "Save all BPF state of a frozen machine to one small file",
  options: ["output", "force", "zstd", "maps", "no-values", "follow"],
  grammar: "",
  examples: [
    "ktstr capture --memory mem -o stall.vmcore.zst",
    "ktstr capture --memory mem -o stall.vmcore --maps scx_flatcg.bss,cgrp_ctx",
    "ktstr inspect --memory stall.vmcore.zst",
  ],
  async start(context) {
    const { options, words, out } = context;
    if (words.length > 0) throw new UsageError(`capture: unexpected arguments: ${words.join(" ")}`);
    const path = options.own["output"];
    if (typeof path !== "string" || path === "")
      throw new UsageError("capture: no output file given: -o FILE", { hint: "-o FILE.zst compresses it." });
    if (path === "-")
      throw new UsageError("capture: the output must be a file, not standard output", {
        hint: "`-o ./-` is a file of that name",
      });
    if (options.memory.length === 0) throw noMemory();
    const filter = new MapFilter(options.own["maps"], options.own["no-values"] === true);
    const follow = countOption(options, "follow", "steps") ?? DEFAULT_FOLLOW;
    let elements = 0;
    const running = options.memory.find(isVm);
    if (running === undefined && options.noPause) throw new UsageError("--no-pause needs --vm");
    // The machine stays stopped until the file is complete: pages are copied last.
    using vm = running === undefined ? undefined : await stopVm(options, running);
    const given = vm?.options() ?? guestOptions(options);
    using made = captureGuest({ ...given, keep: filter.keep }, (state) => {
      elements = readForCapture(state, follow);
    });
    filter.check();
    const isCompressed = path.endsWith(".zst") || options.own["zstd"] === true;
    if (isCompressed) checkSize(made);
    const pieces = isCompressed ? compressedFrames(made.pieces(), ZSTD_LEVEL) : made.pieces();
    let fileBytes = 0;
    writeWholeFile(
      path,
      counted(pieces, (size) => (fileBytes += size)),
      options.own["force"] === true,
    );
    const counts = countsOf(made, elements);
    for (const warning of made.state.warnings) context.warn(warning);
    if (options.json) {
      const { release } = made.state.kernel();
      out.line(stringify({ file: path, file_bytes: fileBytes, release, ...counts }, indentOf(context)));
    } else for (const line of summary(path, fileBytes, made, counts)) out.line(line);
    return 0;
  },
});

export default capture;

/** Returns the error for a capture from the running kernel: bpf(2) returns values, and no pages. */
function noMemory(): UsageError {
  return new UsageError("capture: no memory given: --memory FILE", {
    hint: "a capture consists of pages of physical memory: freeze a virtual machine and dump its memory (QEMU's dump-guest-memory, `virsh dump --memory-only`), or give kdump's vmcore. /proc/kcore is the running kernel's memory, which changes during the read; `ktstr -j inspect` saves a running kernel's state",
  });
}

/** Number of pointers to follow from a value; arenas are captured whole. */
const DEFAULT_FOLLOW = 1;

/** `--maps a,b,12` and `--no-values`: selects the maps whose contents are saved. */
class MapFilter {
  readonly keep: ((map: MapInfo) => boolean) | undefined;
  readonly #unseen: Set<string> = new Set();

  constructor(names: string | boolean | undefined, noValues: boolean) {
    if (names !== undefined && noValues)
      throw new UsageError("capture: --maps and --no-values cannot be combined");
    if (noValues) this.keep = () => false;
    if (typeof names !== "string") return;
    const words = names.split(",").filter((word) => word !== "");
    if (words.length === 0) throw new UsageError("--maps: no maps given: names or ids, separated by commas");
    this.#unseen = new Set(words);
    this.keep = ({ id, name }) =>
      words
        .filter((word) => word === String(id) || Buffer.from(word).equals(name))
        .map((word) => this.#unseen.delete(word)).length > 0;
  }

  /** Called after all maps were listed. Throws `KtstrError` if a name or id matched none. */
  check(): void {
    const [word] = this.#unseen;
    if (word === undefined) return;
    throw new KtstrError(`capture: no map has the name or id ${JSON.stringify(word)}`, {
      hint: "`ktstr map show` lists them",
    });
  }
}

/** Compresses at about 2 ms per MiB. Higher levels take three times as long and save a tenth. */
const ZSTD_LEVEL = 6;

/** Throws `KtstrError` if a capture is too large to compress: opening it decompresses all of it. */
function checkSize({ sizeBytes }: Capture): void {
  if (sizeBytes <= MAX_DECOMPRESSED_BYTES) return;
  throw new KtstrError(`compress a capture of ${sizeText(sizeBytes)}: it is too large`, {
    hint: "Write it without .zst, and compress it with zstd.",
  });
}

function* counted(pieces: Iterable<Uint8Array>, onPiece: (size: number) => void): Generator<Uint8Array> {
  for (const piece of pieces) {
    yield piece;
    onPiece(piece.length);
  }
}

type Counts = Readonly<
  Record<
    | "memory_bytes"
    | "pages"
    | "symbols"
    | "maps"
    | "maps_with_contents"
    | "elements"
    | "progs"
    | "links"
    | "btfs",
    number
  >
>;

function countsOf({ state, ...made }: Capture, elements: number): Counts {
  return {
    memory_bytes: made.memoryBytes,
    pages: made.pageCount,
    symbols: made.symbolCount,
    maps: state.maps().length,
    maps_with_contents: made.mapsWithContents.size,
    elements,
    progs: state.progs().length,
    links: state.links().length,
    btfs: state.btfs().length,
  };
}

function summary(path: string, fileBytes: number, { state }: Capture, counts: Counts): string[] {
  const { maps, maps_with_contents: full, pages } = counts;
  const contents = full === maps ? "all with their contents" : `${full} with their contents`;
  return [
    `${escapeText(path)}: ${sizeText(fileBytes)}`,
    `  ${countText(pages)} pages (${sizeText(pages * CAPTURE_PAGE_BYTES)}) of ${sizeText(counts.memory_bytes)} of memory`,
    `  kernel ${escapeText(state.kernel().release)}, ${counts.symbols} symbols, ${counts.btfs} BTF objects`,
    `  ${maps} maps, ${contents} (${countText(counts.elements)} elements), ${counts.progs} programs, ${counts.links} links`,
  ];
}
