/** Opens the source of a command: the running kernel or a memory file. Loads only the code for that source. */
import type { AttachmentAccessor, PinAccessor } from "../attachments.ts";
import { KtstrError, SyscallError, UsageError } from "../errors.ts";
import type { FeatureAccessor } from "../features.ts";
import type { GuestState } from "../guest/guest.ts";
import type { GuestMaps, GuestOptions } from "../guest/guest-maps.ts";
import { checkFormatName } from "../guest/image/formats.ts";
import type { MemorySource } from "../guest/image/image.ts";
import { decompressAhead } from "../guest/image/zstd.ts";
import type { LogAccessor } from "../kernel-log.ts";
import type { LiveState } from "../live/live.ts";
import { writeError, writeThrough } from "../report/output.ts";
import { sizeText } from "../report/units.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { escapeText } from "../text.ts";
import type { Context, Options } from "./command.ts";

export interface Source extends Disposable {
  readonly state: BpfState & LogAccessor & AttachmentAccessor & PinAccessor & FeatureAccessor;
  /** Set for the running kernel, the only source with pinned paths and descriptors. */
  readonly live: LiveState | undefined;
}

/** A frozen machine, or the running kernel through its own memory. */
export interface KernelMemory extends Source {
  readonly state: GuestState;
}

/** The part of a source that is needed for attributes of maps. */
export interface MapSource extends Disposable {
  readonly state: Pick<BpfState, "maps" | "holders" | "warnings"> & PinAccessor;
  readonly live: Pick<LiveState, "adopt" | "map"> | undefined;
}

/** `keep` selects the maps whose contents will be read. */
export async function openSource(options: Options, keep: (map: MapInfo) => boolean): Promise<Source> {
  if (readsMemory(options)) return openMemory(options);
  const { openLive, write } = await import("../live/live.ts");
  writeThrough(write);
  const live = openLive({ keep });
  return { state: live, live, [Symbol.dispose]: () => live[Symbol.dispose]() };
}

/** For attributes only: keeps no descriptors and loads a third of the code of live/. */
export async function openMaps(options: Options): Promise<MapSource> {
  if (readsMemory(options)) return openMemoryMaps(options);
  const { LiveMaps, write } = await import("../live/maps.ts");
  writeThrough(write);
  const live = new LiveMaps({ keep: () => false });
  return { state: live, live, [Symbol.dispose]: () => live[Symbol.dispose]() };
}

const KCORE = "/proc/kcore";

/**
 * Opens a memory file or the running kernel's own memory, for facts that bpf(2) does not provide. Throws `KtstrError` if
 * the running kernel's memory is not accessible.
 */
export async function openKernelMemory(options: Options): Promise<KernelMemory> {
  if (readsMemory(options)) return openMemory(options);
  try {
    return await openMemory({ ...options, memory: [KCORE] });
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new KtstrError(`the running kernel's memory is not accessible: ${error.message}`, {
      hint:
        error.code === "ENOENT"
          ? "/proc is not mounted, or the kernel was built without CONFIG_PROC_KCORE. `--memory FILE` reads a frozen machine."
          : error.hint,
      cause: error,
    });
  }
}

/**
 * Calls `fromMemory` with the kernel's memory. If the running kernel's memory is not accessible, calls `otherwise`, which
 * reads its files, with the reason; if that returns undefined, the reason is thrown.
 */
export async function fromKernelMemory<T>(
  options: Options,
  fromMemory: (source: KernelMemory) => T,
  otherwise: (why: KtstrError) => Promise<T | undefined>,
): Promise<T> {
  let source: KernelMemory;
  try {
    source = await openKernelMemory(options);
  } catch (error) {
    if (!(error instanceof KtstrError) || error instanceof UsageError || options.memory.length > 0)
      throw error;
    const answer = await otherwise(error);
    if (answer === undefined) throw error;
    return answer;
  }
  using _ = source;
  return fromMemory(source);
}

/** For commands that read no kernel: throws `UsageError` if a source option is given. */
export function refuseMemory(options: Options, command: string): void {
  if (readsMemory(options))
    throw new UsageError(`${command}: it reads no kernel, so --memory cannot be used`, {
      hint: "omit --memory and the options that need it",
    });
}

/** Returns true if memory is given. Throws `UsageError` if an option for memory files is given without one. */
export function readsMemory(options: Options): boolean {
  if (options.memory.length > 0) return true;
  for (const name of ["vmlinux", "vmcoreinfo", "format", "explain"] as const)
    if (options[name] !== undefined && options[name] !== false)
      throw new UsageError(`--${name} needs --memory`);
  if (options.noPause) throw new UsageError("--no-pause needs --vm");
  return false;
}

/** Open memory by its options; undefined outside of a batch. */
let kept: Map<string, KernelMemory> | undefined;

/** Until this is disposed, memory files are opened once and stay open between commands. */
export function keepMemoryOpen(): Disposable {
  if (kept !== undefined) return { [Symbol.dispose]: () => {} };
  const all: Map<string, KernelMemory> = new Map();
  kept = all;
  return {
    [Symbol.dispose]() {
      kept = undefined;
      for (const source of all.values()) source[Symbol.dispose]();
    },
  };
}

async function openMemory(options: Options): Promise<KernelMemory> {
  const { memory, vmlinux, vmcoreinfo, format } = options;
  // Every command reads the memory of a running machine again.
  if (kept === undefined || memory.some(isRunning)) return openUncachedMemory(options);
  const key = JSON.stringify([memory, vmlinux, vmcoreinfo, format]);
  const source = kept.get(key) ?? (await openUncachedMemory(options));
  kept.set(key, source);
  return { state: source.state, live: undefined, [Symbol.dispose]: () => {} };
}

/** include/uapi/linux/magic.h */
const PROC_SUPER_MAGIC = 0x9fa0;

/** Returns true if the memory is that of a running machine: /proc/kcore, or a virtual machine. */
export function isRunning(given: string): boolean {
  const { path } = memorySource(given);
  if (isVm(path)) return true;
  try {
    return process.getBuiltinModule("node:fs").statfsSync(path).type === PROC_SUPER_MAGIC;
  } catch {
    return false; // opening the file reports the error
  }
}

async function openUncachedMemory(options: Options): Promise<KernelMemory> {
  const given = guestOptions(options);
  const [{ path }] = given.memory as [MemorySource];
  if (isVm(path)) return openVm(options, path);
  return openFiles(options, given, async () => (await import("../guest/guest.ts")).openGuest);
}

/** Loads less code than `openMemory`, except for a batch, whose memory files stay open, and for a virtual machine. */
async function openMemoryMaps(options: Options): Promise<MapSource> {
  const given = guestOptions(options);
  const [{ path }] = given.memory as [MemorySource];
  if (kept !== undefined || isVm(path)) return openMemory(options);
  return openFiles(options, given, async () => (await import("../guest/guest-maps.ts")).openGuestMaps);
}

/** `load` loads the code of `State`. */
async function openFiles<State extends GuestMaps>(
  options: Options,
  given: ReturnType<typeof guestOptions>,
  load: () => Promise<(options: GuestOptions) => State>,
): Promise<Disposable & { readonly state: State; readonly live: undefined }> {
  if (options.noPause) throw new UsageError("--no-pause needs --vm");
  // Decompression runs while the remaining code is loaded, which takes as long.
  const ahead = given.memory.map(async (source) => ({
    ...source,
    decompressed: source.format === undefined ? await decompressAhead(source.path) : undefined,
  }));
  const open = await load();
  using progress = new Progress();
  const state = open({
    ...given,
    memory: await Promise.all(ahead),
    others: options.explain,
    sharesTypes: true,
    onProgress: progress.search,
    onUnpack: progress.unpack,
  });
  if (options.explain) for (const { what, text } of state.explain()) note(`${what}: ${text}`);
  return { state, live: undefined, [Symbol.dispose]: () => state[Symbol.dispose]() };
}

/** True if the path is the memory of a process, or a socket, which is assumed to be QEMU's QMP socket. */
export function isVm(path: string): boolean {
  if (/^\/proc\/\d+\/mem$/.test(path)) return true;
  try {
    return process.getBuiltinModule("node:fs").statSync(path).isSocket();
  } catch {
    return false; // opening the file reports the error
  }
}

/** Opens a running machine. The location of VMCOREINFO, which takes a search of all memory, is found before the pause. */
async function openVm(options: Options, path: string): Promise<KernelMemory> {
  const { openGuest } = await import("../guest/guest.ts");
  using stack = new DisposableStack();
  const vm = stack.use(await stopVm(options, path));
  using progress = new Progress();
  const state = stack.use(openGuest({ ...vm.options(), onProgress: progress.search }));
  if (options.explain) for (const { what, text } of state.explain()) note(`${what}: ${text}`);
  const all = stack.move();
  return { state, live: undefined, [Symbol.dispose]: () => all[Symbol.dispose]() };
}

/** A machine that is paused until it is disposed; then the length of the pause is printed. */
export interface StoppedVm extends Disposable {
  /** Options to read its memory after the pause began. */
  options(): ReturnType<typeof guestOptions>;
}

/** Finds the kernel while the machine runs, then pauses it, unless `--no-pause`. Throws `KtstrError`. */
export async function stopVm(options: Options, path: string): Promise<StoppedVm> {
  const { openGuest } = await import("../guest/guest.ts");
  const { RunningVm } = await import("../guest/vm/vm.ts");
  using stack = new DisposableStack();
  const vm = stack.use(new RunningVm(path));
  const given = guestOptions(options);
  const open = (): GuestState => {
    using progress = new Progress();
    return openGuest({ ...given, memory: [vm.ram()], onProgress: progress.search });
  };
  const at = options.noPause ? given.vmcoreinfo : (given.vmcoreinfo ?? vmcoreinfoOfRunningVm(open));
  const pause = options.noPause ? undefined : vm.pause();
  if (pause !== undefined) stack.defer(() => note(`the machine was paused for ${pause.end().toFixed(0)} ms`));
  const all = stack.move();
  return {
    options: () => ({ ...given, vmcoreinfo: at, memory: [vm.ram()] }),
    [Symbol.dispose]: () => all[Symbol.dispose](),
  };
}

/** Returns undefined if no kernel was found, which may be caused by changes during the search. */
function vmcoreinfoOfRunningVm(open: () => GuestState): number | undefined {
  try {
    using state = open();
    return state.vmcoreinfoAt;
  } catch (error) {
    if (error instanceof KtstrError) return undefined;
    throw error;
  }
}

/** Returns the memory files and their options as given. Throws `UsageError`. */
export function guestOptions(
  options: Options,
): Pick<GuestOptions, "vmlinux" | "vmcoreinfo"> & { readonly memory: readonly MemorySource[] } {
  const { vmlinux, format } = options;
  if (format !== undefined) checkFormatName(format);
  const vmcoreinfo =
    options.vmcoreinfo === undefined ? undefined : addressOf("vmcoreinfo", options.vmcoreinfo);
  const memory = options.memory.map((given) => ({ ...memorySource(given), format }));
  return { memory, vmlinux, vmcoreinfo };
}

/** Parses "FILE" or "FILE@ADDRESS". If a file with the full name exists, it is that file. */
export function memorySource(given: string): MemorySource {
  const [, path = "", address = ""] = /^(.+)@([0-9][0-9a-fx]*)$/i.exec(given) ?? [];
  if (path === "" || process.getBuiltinModule("node:fs").existsSync(given)) return { path: given };
  return { path, physical: addressOf("memory", address) };
}

/** Parses a physical address: decimal, or hexadecimal after "0x". */
function addressOf(option: string, text: string): number {
  const address = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(address)) return address;
  throw new UsageError(`--${option}: ${JSON.stringify(text)} is not a physical address`, {
    hint: "for example 0x40000000",
  });
}

const shownWarnings: WeakMap<object, number> = new WeakMap();

/** Prints the warnings of a state on stderr, each once, even if several commands read the state. */
export function warnAll(context: Context, state: Pick<BpfState, "warnings">): void {
  for (const sentence of state.warnings.slice(shownWarnings.get(state) ?? 0)) context.warn(sentence);
  shownWarnings.set(state, state.warnings.length);
}

function note(sentence: string): void {
  writeError(`${escapeText(sentence)}\n`);
}

/** Progress is shown only after this time. */
const SILENT_MS = 500;
const GIB = 2 ** 30;

/** A progress line on the terminal while an image is searched or maps are read. It is erased at the end. */
export class Progress implements Disposable {
  readonly #started = performance.now();
  #percent = -1;

  readonly search: NonNullable<GuestOptions["onProgress"]> = (done, total) =>
    this.#show("searching for the kernel", done, total);

  readonly unpack: NonNullable<GuestOptions["onUnpack"]> = (done, total) =>
    this.#show("unpacking", done, total);

  /** Shows progress in items, not bytes. */
  count(what: string, done: number, total: number): void {
    this.#print(what, (100 * done) / Math.max(1, total), `${done} of ${total}`);
  }

  /** Shows the number of bytes if `total` is 0 (unknown). */
  #show(what: string, done: number, total: number): void {
    const percent = (100 * done) / (total === 0 ? GIB : total);
    this.#print(
      what,
      percent,
      total === 0 ? sizeText(done) : `${Math.floor(percent)} % of ${sizeText(total)}`,
    );
  }

  #print(what: string, exactPercent: number, text: string): void {
    const percent = Math.floor(exactPercent);
    if (percent === this.#percent || performance.now() - this.#started < SILENT_MS) return;
    if (!process.stderr.isTTY) return; // checked last: the first access to process.stderr takes 7 ms
    this.#percent = percent;
    writeError(`\r\x1b[K${what}: ${text}`);
  }

  [Symbol.dispose](): void {
    if (this.#percent >= 0) writeError("\r\x1b[K");
  }
}
