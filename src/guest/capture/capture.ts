/**
 * Makes captures: ELF cores with only those pages of a frozen machine's memory that ktstr needs. A capture is made by
 * running all queries and recording the pages that they read. Queries of the capture then read the same pages.
 */
import type { MapInfo } from "../../state.ts";
import { NT_PRSTATUS } from "../../uapi/elf.ts";
import { MapType } from "../../uapi/names.ts";
import { GuestState } from "../guest.ts";
import { PRSTATUS_NAME } from "../image/core.ts";
import { WINDOW_BYTES } from "../image/physical.ts";
import { type OpenedKernel, type OpenKernelOptions, openKernel } from "../kernel/kernel.ts";
import { toBigInt } from "../memory/pointer.ts";
import { CAPTURE_NOTE_NAME, CAPTURE_NOTE_TYPE, type CaptureNote, captureNoteText } from "./note.ts";
import { CAPTURE_PAGE_BYTES } from "./pages.ts";
import { Recorder } from "./record.ts";
import { coreFile, type MappedRange } from "./vmcore.ts";

export interface CaptureOptions extends Omit<OpenKernelOptions, "recorder"> {
  /** Selects the maps whose contents are captured; default all. Attributes and struct_ops maps are always captured. */
  readonly keep?: ((map: MapInfo) => boolean) | undefined;
}

export interface Capture extends Disposable {
  /** The machine that was captured. Valid until the capture is closed. */
  readonly state: GuestState;
  /** Ids of the maps whose contents are in the capture. */
  readonly mapsWithContents: ReadonlySet<number>;
  readonly symbolCount: number;
  readonly pageCount: number;
  readonly memoryBytes: number;
  /** Size of the capture file. */
  readonly sizeBytes: number;
  /** Yields the file's bytes in order. */
  pieces(): Generator<Uint8Array>;
}

/**
 * Opens a frozen machine, calls `runQueries` on it, and captures the pages that they read. The same memory and
 * queries give the same file. Throws `KtstrError` if the machine cannot be opened.
 *
 *     using capture = captureGuest({ memory: [{ path: "mem" }] }, readForCapture);
 *     for (const piece of capture.pieces()) writeSync(fd, piece);
 */
export function captureGuest(options: CaptureOptions, runQueries: (state: GuestState) => void): Capture {
  const recorder = new Recorder();
  const kernel = openKernel({ ...options, recorder });
  try {
    const { capturedValues: had } = kernel;
    const keep = (map: MapInfo): boolean =>
      had?.has(map.id) !== false && (map.type === MapType.struct_ops || options.keep?.(map) !== false);
    const kept = new Set(
      new GuestState(kernel)
        .maps()
        .filter(keep)
        .map(({ id }) => id),
    );
    const values = had === undefined && options.keep === undefined ? undefined : kept;
    const state = new GuestState(kernel, values);
    runQueries(state);
    touchBtf(kernel);
    const note: CaptureNote = {
      memoryBytes: kernel.memory.physical.sizeBytes,
      symbolCount: kernel.symbols.count,
      addresses: recorder.addresses,
      nearest: recorder.nearest,
      values,
      warnings: kernel.assumptions,
    };
    const { found, directBase } = kernel;
    const file = coreFile(found.physical, {
      machine: found.machine.machine,
      notes: [
        { name: "VMCOREINFO", type: 0, bytes: Buffer.from(found.info.text, "latin1") },
        ...kernel.prstatus.map((bytes) => ({ name: PRSTATUS_NAME, type: NT_PRSTATUS, bytes })),
        { name: CAPTURE_NOTE_NAME, type: CAPTURE_NOTE_TYPE, bytes: Buffer.from(captureNoteText(note)) },
      ],
      runs: recorder.pages.runs(WINDOW_BYTES),
      directBase,
      image: imageOf(kernel),
    });
    return {
      state,
      mapsWithContents: kept,
      symbolCount: note.addresses.size + note.nearest.size,
      pageCount: recorder.pages.count,
      memoryBytes: note.memoryBytes,
      sizeBytes: file.sizeBytes,
      pieces: () => file.pieces(),
      [Symbol.dispose]: () => state[Symbol.dispose](),
    };
  } catch (error) {
    kernel[Symbol.dispose]();
    throw error;
  }
}

/** Captures the kernel's own BTF even if the types came from a vmlinux, which the capture's user may not have. */
function touchBtf({ symbols, memory }: OpenedKernel): void {
  const start = symbols.address("__start_BTF");
  const stop = symbols.address("__stop_BTF");
  if (start === undefined || stop === undefined) return;
  const length = Number(toBigInt(stop.hi, stop.lo) - toBigInt(start.hi, start.lo));
  for (let done = 0; done < length; done += CAPTURE_PAGE_BYTES) memory.locate(start.hi, start.lo, done, 1);
}

/** Returns the range from `_text` to `_end`; undefined if the kernel has no such symbols. */
function imageOf({ symbols, found }: OpenedKernel): MappedRange | undefined {
  const from = symbols.address("_text");
  const to = symbols.address("_end");
  if (from === undefined || to === undefined) return undefined;
  const virtual = toBigInt(from.hi, from.lo);
  const length = Number(toBigInt(to.hi, to.lo) - virtual);
  return { physical: Number(virtual - found.machine.imageOffset), length, virtual };
}
