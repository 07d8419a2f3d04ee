/**
 * A capture: the pages of a frozen machine's memory that the answers to all questions come from, as an ELF core. It is
 * made by asking all of them and noting what was read; whoever asks the capture walks the same way through it.
 */
import type { KernelInfo, MapContents, MapInfo } from "../../state.ts";
import { MapType } from "../../uapi/names.ts";
import { GuestState } from "../guest.ts";
import { type OpenedKernel, type OpenKernelOptions, openKernel } from "../kernel.ts";
import { WINDOW_BYTES } from "../physical.ts";
import { toBigInt } from "../pointer.ts";
import { CAPTURE_NOTE_NAME, CAPTURE_NOTE_TYPE, type CaptureNote, captureNoteText } from "./note.ts";
import { CAPTURE_PAGE_BYTES } from "./pages.ts";
import { Recorder } from "./record.ts";
import { coreFile } from "./vmcore.ts";

export interface CaptureOptions extends Omit<OpenKernelOptions, "recorder"> {
  /** Whether a map's contents go in; all do without. Attributes always do. */
  readonly keep?: ((map: MapInfo) => boolean) | undefined;
}

/** What went in. */
export interface CaptureSummary {
  readonly kernel: KernelInfo;
  readonly maps: number;
  /** Maps whose contents are in it, and how many elements, records and pages of arenas those have. */
  readonly mapsWithContents: number;
  readonly elements: number;
  readonly progs: number;
  readonly links: number;
  readonly btfs: number;
  readonly symbols: number;
  readonly pages: number;
  readonly memoryBytes: number;
  readonly warnings: readonly string[];
}

export interface Capture extends Disposable {
  readonly summary: CaptureSummary;
  /** Of the file. */
  readonly sizeBytes: number;
  /** The file, from its start. */
  pieces(): Generator<Uint8Array>;
}

/**
 * Asks a frozen machine everything. The same memory gives the same file. Throws `KtstrError` where the machine cannot be
 * opened.
 *
 *     using capture = captureGuest({ memory: [{ path: "mem" }] });
 *     for (const piece of capture.pieces()) writeSync(fd, piece);
 */
export function captureGuest(options: CaptureOptions): Capture {
  const recorder = new Recorder();
  const kernel = openKernel({ ...options, recorder });
  try {
    const { capturedValues: had } = kernel;
    const state = new GuestState(kernel, had);
    const keep = (map: MapInfo): boolean => had?.has(map.id) !== false && options.keep?.(map) !== false;
    const summary = askEverything(state, keep);
    touchBtf(kernel);
    const isWhole = had === undefined && options.keep === undefined;
    const kept = state.maps().filter(keep);
    const note: CaptureNote = {
      memoryBytes: kernel.memory.physical.sizeBytes,
      symbolCount: kernel.symbols.count,
      addresses: recorder.addresses,
      nearest: recorder.nearest,
      values: isWhole ? undefined : new Set(kept.map(({ id }) => id)),
      warnings: kernel.assumptions,
    };
    const { found, directBase } = kernel;
    const file = coreFile(found.physical, {
      machine: found.machine.machine,
      notes: [
        { name: "VMCOREINFO", type: 0, bytes: Buffer.from(found.info.text, "latin1") },
        { name: CAPTURE_NOTE_NAME, type: CAPTURE_NOTE_TYPE, bytes: Buffer.from(captureNoteText(note)) },
      ],
      runs: recorder.pages.runs(WINDOW_BYTES),
      directBase,
    });
    return {
      summary: {
        ...summary,
        symbols: recorder.addresses.size,
        pages: recorder.pages.count,
        memoryBytes: note.memoryBytes,
        warnings: [...state.warnings],
      },
      sizeBytes: file.sizeBytes,
      pieces: () => file.pieces(),
      [Symbol.dispose]: () => state[Symbol.dispose](),
    };
  } catch (error) {
    kernel[Symbol.dispose]();
    throw error;
  }
}

type Asked = Omit<CaptureSummary, "symbols" | "pages" | "memoryBytes" | "warnings">;

/** Everything that a command can ask. */
function askEverything(state: GuestState, keep: (map: MapInfo) => boolean): Asked {
  const kernel = state.kernel();
  state.explain();
  const progs = state.progs().length;
  const links = state.links().length;
  state.activeScheduler();
  const btfs = state.btfs();
  for (const { id } of btfs) state.btf(id);
  const maps = state.maps();
  let mapsWithContents = 0;
  let elements = 0;
  for (const map of maps) {
    state.programBtf(map);
    if (!keep(map)) continue;
    mapsWithContents++;
    elements += readAll(state.contents(map));
    if (map.type === MapType.array && map.maxEntries === 1) state.readValue(map, 0, map.valueSize);
  }
  return { kernel, maps: maps.length, mapsWithContents, elements, progs, links, btfs: btfs.length };
}

/** Walks to the end; how many elements there were. */
function readAll(contents: MapContents): number {
  switch (contents.kind) {
    case "entries": {
      using walk = contents.cursor;
      let count = 0;
      while (walk.next()) count++;
      return count;
    }
    case "records":
      return contents.records.length;
    case "arena":
      return contents.arena.pages.length;
    case "unreadable":
      return 0;
  }
}

/** The kernel's own BTF, also where types came from a vmlinux: who opens the capture need not have that. */
function touchBtf({ symbols, memory }: OpenedKernel): void {
  const start = symbols.address("__start_BTF");
  const stop = symbols.address("__stop_BTF");
  if (start === undefined || stop === undefined) return;
  const length = Number(toBigInt(stop.hi, stop.lo) - toBigInt(start.hi, start.lo));
  for (let done = 0; done < length; done += CAPTURE_PAGE_BYTES) memory.locate(start.hi, start.lo, done, 1);
}
