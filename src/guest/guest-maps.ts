/** A frozen machine's maps: attributes, holders and pins. `map show` loads this file instead of the larger guest.ts. */
import type { PinAccessor, PinnedKind } from "../attachments.ts";
import { DisposedError } from "../errors.ts";
import type { Holders, MapInfo, Read } from "../state.ts";
import { readHolders } from "./bpf/holders.ts";
import { type GuestMap, listMaps } from "./bpf/map-info.ts";
import type { MemorySource } from "./image/image.ts";
import { type Finding, type GuestKernel, type OpenedKernel, openKernel } from "./kernel/kernel.ts";
import { type OpenFile, openFiles } from "./kernel/open-files.ts";

export interface GuestOptions {
  /** The machine's memory: raw files or dumps, whose formats are detected. A string is a path. */
  readonly memory: string | MemorySource | readonly (string | MemorySource)[];
  /** An ELF file with the kernel's symbols and types. By default those in memory are used. */
  readonly vmlinux?: string | undefined;
  /** Guest physical address of VMCOREINFO (its text or its note); skips the search. */
  readonly vmcoreinfo?: number | undefined;
  /** Whether raw memory is searched to its end, to warn about a second kernel. */
  readonly others?: boolean | undefined;
  /**
   * Whether the kernel's types share the mapped memory file, which saves a copy of 5 MB. Types must then not be used after the
   * state is disposed.
   */
  readonly sharesTypes?: boolean | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Receives the progress while a compressed file or a pipe is copied. `totalBytes` is 0 for a pipe. */
  readonly onUnpack?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/** Opens a frozen machine for its maps. Throws `KtstrError` like `openGuest`. */
export function openGuestMaps(options: GuestOptions): GuestMaps {
  return new GuestMaps(openGuestKernel(options));
}

/** Opens the kernel of a frozen machine. Throws `KtstrError` if its files cannot be read or contain no kernel. */
export function openGuestKernel(options: GuestOptions): OpenedKernel {
  const given = Array.isArray(options.memory) ? options.memory : [options.memory];
  const memory = given.map((source) => (typeof source === "string" ? { path: source } : source));
  return openKernel({ ...options, memory });
}

/** Listings are cached: a frozen machine does not change. */
export class GuestMaps implements PinAccessor, Disposable {
  readonly #kernel: OpenedKernel;
  readonly #warnings: string[];
  #maps: ReadonlyMap<number, GuestMap> | undefined;
  #mapInfos: readonly MapInfo[] | undefined;
  #holders: Read<Holders> | undefined;
  #openFiles: readonly OpenFile[] | undefined;
  #disposed = false;
  /** Whether the kernel belongs to another state, which disposes it. */
  protected sharesKernel = false;

  /** Takes ownership of the kernel. */
  constructor(kernel: OpenedKernel) {
    this.#kernel = kernel;
    this.#warnings = [...kernel.warnings];
  }

  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** The steps that found the kernel, in order. */
  explain(): readonly Finding[] {
    return this.alive().explain();
  }

  maps(): readonly MapInfo[] {
    this.mapsById();
    return this.#mapInfos!;
  }

  /** Returns `unsupported` for captures made by older versions, which did not read this. */
  holders(): Read<Holders> {
    const kernel = this.checked();
    this.#holders ??= readHolders(kernel, () => this.files(kernel));
    return this.#holders;
  }

  /** The path from the root of all mounts, in any mount namespace. */
  pinnedPaths(kind: PinnedKind): ReadonlyMap<number, readonly Uint8Array[]> {
    const pins = require("./bpf/pins.ts") as typeof import("./bpf/pins.ts");
    return pins.listPins(this.checked(), kind, this.warn);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.sharesKernel) this.#kernel[Symbol.dispose]();
  }

  protected readonly warn = (sentence: string): void => {
    this.#warnings.push(sentence);
  };

  protected alive(): OpenedKernel {
    if (this.#disposed) throw new DisposedError("a frozen machine");
    return this.#kernel;
  }

  /** Returns the kernel after checking that its files did not shrink. Called before every listing. Throws `KtstrError`. */
  protected checked(): GuestKernel {
    this.alive().check();
    return this.#kernel;
  }

  protected mapsById(): ReadonlyMap<number, GuestMap> {
    const kernel = this.alive();
    if (this.#maps === undefined) {
      kernel.check();
      const maps = listMaps(kernel, this.warn);
      this.#mapInfos = maps.map(({ info }) => info);
      this.#maps = new Map(maps.map((map) => [map.info.id, map]));
    }
    return this.#maps;
  }

  /** Returns the open files, which are read once for holders and perf attachments. */
  protected files(kernel: GuestKernel): readonly OpenFile[] {
    this.#openFiles ??= openFiles(kernel);
    return this.#openFiles;
  }
}
