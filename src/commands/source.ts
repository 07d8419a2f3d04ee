/** Opens what a command reads: the running kernel, or a memory file. Only the code of the one that is read is loaded. */
import type { AttachmentAccessor, PinAccessor } from "../attachments.ts";
import { KtstrError, SyscallError, UsageError } from "../errors.ts";
import type { FeatureAccessor } from "../features.ts";
import type { GuestOptions, GuestState } from "../guest/guest.ts";
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
  /** Set where the running kernel is read: pinned paths and descriptors exist only there. */
  readonly live: LiveState | undefined;
}

/** A frozen machine, or the running kernel through its own memory. */
export interface KernelMemory extends Source {
  readonly state: GuestState;
}

/** As much of a source as its maps' attributes take. */
export interface MapSource extends Disposable {
  readonly state: Pick<BpfState, "maps" | "holders" | "warnings"> & PinAccessor;
  readonly live: Pick<LiveState, "adopt" | "map"> | undefined;
}

/** `keep` chooses the maps whose contents will be read. */
export async function openSource(options: Options, keep: (map: MapInfo) => boolean): Promise<Source> {
  if (readsMemory(options)) return openMemory(options);
  const { openLive, write } = await import("../live/live.ts");
  writeThrough(write);
  const live = openLive({ keep });
  return { state: live, live, [Symbol.dispose]: () => live[Symbol.dispose]() };
}

/** For attributes alone: no descriptor is kept, and of the live path a third of the code is loaded. */
export async function openMaps(options: Options): Promise<MapSource> {
  if (readsMemory(options)) return openMemory(options);
  const { LiveMaps, write } = await import("../live/maps.ts");
  writeThrough(write);
  const live = new LiveMaps({ keep: () => false });
  return { state: live, live, [Symbol.dispose]: () => live[Symbol.dispose]() };
}

const KCORE = "/proc/kcore";

/**
 * For what bpf(2) does not tell: a memory file, or the running kernel's own memory. Throws `KtstrError` where the
 * running kernel does not give it.
 */
export async function openKernelMemory(options: Options): Promise<KernelMemory> {
  if (readsMemory(options)) return openMemory(options);
  try {
    return await openMemory({ ...options, memory: [KCORE] });
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new KtstrError(`the running kernel does not give its memory: ${error.message}`, {
      hint:
        error.code === "ENOENT"
          ? "/proc is not mounted, or the kernel was built without CONFIG_PROC_KCORE. `--memory FILE` reads a frozen machine."
          : error.hint,
      cause: error,
    });
  }
}

/**
 * `fromMemory` of the kernel's memory; of the running kernel, where it does not give its memory, `otherwise` of its
 * files, which is told why. What `otherwise` answers with undefined is that error.
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

/** For a command that reads neither a running kernel nor a memory file: throws `UsageError` where one is given. */
export function refuseMemory(options: Options, command: string): void {
  if (readsMemory(options))
    throw new UsageError(`${command}: no kernel is read, so --memory does not go with it`, {
      hint: "leave out --memory and the options that go with it",
    });
}

/** Throws `UsageError` where an option is given that only goes with a memory file. */
function readsMemory(options: Options): boolean {
  if (options.memory.length > 0) return true;
  for (const name of ["vmlinux", "vmcoreinfo", "format", "explain"] as const)
    if (options[name] !== undefined && options[name] !== false)
      throw new UsageError(`--${name} goes with --memory`);
  if (options.noPause) throw new UsageError("--no-pause goes with --vm");
  return false;
}

/** Memory that is open, by the options that it was opened with; undefined outside of a batch. */
let kept: Map<string, KernelMemory> | undefined;

/** From here to its disposal memory files are opened once, and stay open between commands. */
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
  // What goes on running is read anew by every command.
  if (kept === undefined || memory.some(goesOn)) return openMemoryAnew(options);
  const key = JSON.stringify([memory, vmlinux, vmcoreinfo, format]);
  const source = kept.get(key) ?? (await openMemoryAnew(options));
  kept.set(key, source);
  return { state: source.state, live: undefined, [Symbol.dispose]: () => {} };
}

/** include/uapi/linux/magic.h */
const PROC_SUPER_MAGIC = 0x9fa0;

/** /proc/kcore, and running machines. */
export function goesOn(given: string): boolean {
  const { path } = memorySource(given);
  if (isVm(path)) return true;
  try {
    return process.getBuiltinModule("node:fs").statfsSync(path).type === PROC_SUPER_MAGIC;
  } catch {
    return false; // its error is told when it is opened
  }
}

async function openMemoryAnew(options: Options): Promise<KernelMemory> {
  const given = guestOptions(options);
  const [{ path }] = given.memory as [MemorySource];
  if (isVm(path)) return openVm(options, path);
  if (options.noPause) throw new UsageError("--no-pause goes with --vm");
  // Before the rest is loaded, which takes as long.
  const ahead = given.memory.map(async (source) => ({
    ...source,
    decompressed: source.format === undefined ? await decompressAhead(source.path) : undefined,
  }));
  const { openGuest } = await import("../guest/guest.ts");
  using progress = new Progress();
  const state = openGuest({
    ...given,
    memory: await Promise.all(ahead),
    others: options.explain,
    onProgress: progress.search,
    onUnpack: progress.unpack,
  });
  if (options.explain) for (const { what, text } of state.explain()) note(`${what}: ${text}`);
  return { state, live: undefined, [Symbol.dispose]: () => state[Symbol.dispose]() };
}

/** Whether a path is a process's memory, or a socket, which then is QEMU's. */
export function isVm(path: string): boolean {
  if (/^\/proc\/\d+\/mem$/.test(path)) return true;
  try {
    return process.getBuiltinModule("node:fs").statSync(path).isSocket();
  } catch {
    return false; // its error is told when it is opened
  }
}

/**
 * A running machine. What does not move is found out while it still runs: where the kernel has its VMCOREINFO, which
 * takes a search through all of its memory.
 */
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

/** A machine that stands still until it is disposed, and then says for how long it did. */
export interface StoppedVm extends Disposable {
  /** Its memory, read anew, and what goes with it. */
  options(): ReturnType<typeof guestOptions>;
}

/** Finds the kernel while the machine runs, and stops it, unless `--no-pause`. Throws `KtstrError`. */
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
  const at = options.noPause ? given.vmcoreinfo : (given.vmcoreinfo ?? vmcoreinfoWhileItRuns(open));
  const pause = options.noPause ? undefined : vm.pause();
  if (pause !== undefined)
    stack.defer(() => note(`the machine stood still for ${pause.end().toFixed(0)} ms`));
  const all = stack.move();
  return {
    options: () => ({ ...given, vmcoreinfo: at, memory: [vm.ram()] }),
    [Symbol.dispose]: () => all[Symbol.dispose](),
  };
}

/** undefined: no kernel was found, which may be for what changed meanwhile. */
function vmcoreinfoWhileItRuns(open: () => GuestState): number | undefined {
  try {
    using state = open();
    return state.vmcoreinfoAt;
  } catch (error) {
    if (error instanceof KtstrError) return undefined;
    throw error;
  }
}

/** The memory file and what goes with it, as they were given. Throws `UsageError`. */
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

/** "FILE" or "FILE@ADDRESS"; a file whose own name ends so is itself. */
export function memorySource(given: string): MemorySource {
  const [, path = "", address = ""] = /^(.+)@([0-9][0-9a-fx]*)$/i.exec(given) ?? [];
  if (path === "" || process.getBuiltinModule("node:fs").existsSync(given)) return { path: given };
  return { path, physical: addressOf("memory", address) };
}

/** A physical address: decimal, or hexadecimal behind "0x". */
function addressOf(option: string, text: string): number {
  const address = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(address)) return address;
  throw new UsageError(`--${option}: ${JSON.stringify(text)} is not a physical address`, {
    hint: "for example 0x40000000",
  });
}

const told: WeakMap<object, number> = new WeakMap();

/** Hands everything that the listing could not read to stderr: once, also where several commands read one state. */
export function warnAll(context: Context, state: Pick<BpfState, "warnings">): void {
  for (const sentence of state.warnings.slice(told.get(state) ?? 0)) context.warn(sentence);
  told.set(state, state.warnings.length);
}

function note(sentence: string): void {
  writeError(`${escapeText(sentence)}\n`);
}

/** A search that takes no longer than this is not talked about. */
const SILENT_MS = 500;
const GIB = 2 ** 30;

/** One line on the terminal while an image is searched, or maps are read; gone afterwards. */
export class Progress implements Disposable {
  readonly #started = performance.now();
  #percent = -1;

  readonly search: NonNullable<GuestOptions["onProgress"]> = (done, total) =>
    this.#show("searching for the kernel", done, total);

  readonly unpack: NonNullable<GuestOptions["onUnpack"]> = (done, total) =>
    this.#show("unpacking", done, total);

  /** Of things, and not of bytes. */
  count(what: string, done: number, total: number): void {
    this.#tell(what, (100 * done) / Math.max(1, total), `${done} of ${total}`);
  }

  /** Of a `total` that nobody knows, 0, the bytes are told. */
  #show(what: string, done: number, total: number): void {
    const percent = (100 * done) / (total === 0 ? GIB : total);
    this.#tell(
      what,
      percent,
      total === 0 ? sizeText(done) : `${Math.floor(percent)} % of ${sizeText(total)}`,
    );
  }

  #tell(what: string, far: number, text: string): void {
    const percent = Math.floor(far);
    if (percent === this.#percent || performance.now() - this.#started < SILENT_MS) return;
    if (!process.stderr.isTTY) return; // asked last: the first touch of process.stderr takes 7 ms
    this.#percent = percent;
    writeError(`\r\x1b[K${what}: ${text}`);
  }

  [Symbol.dispose](): void {
    if (this.#percent >= 0) writeError("\r\x1b[K");
  }
}
