/** A running guest: booted, told what to do through its agent, frozen, and gone when disposed. */
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Agent, connectAgent, type ExecResult } from "./agent.ts";
import { labDir } from "./cache.ts";
import { baseInitramfs } from "./initramfs.ts";
import { fetchKernel, type Kernel, type KernelName } from "./kernels.ts";
import { LabError } from "./process.ts";
import { type Machine, type MemoryPiece, piecesIn, startQemu } from "./qemu.ts";

/** The guest ended or hung on its own. `console` is what it printed; the file stays in `consolePath`. */
export class GuestDied extends LabError {
  readonly console: string;
  readonly consolePath: string;

  constructor(what: string, console: string, consolePath: string) {
    super(`lab: the guest died: ${what}`, { hint: `its console is in ${consolePath}` });
    this.console = console;
    this.consolePath = consolePath;
  }
}

export interface StartOptions {
  readonly kernel: KernelName;
  readonly cpus?: number;
  readonly memoryMiB?: number;
  readonly fiveLevel?: boolean;
  /** Archives (cpio, uncompressed) laid over the base userland. */
  readonly overlays?: readonly Uint8Array[];
  /** Where memory, console and answers go; by default a fresh folder under the cache, removed on disposal. */
  readonly dir?: string;
  /** From QEMU's start until init answers. Emulation on a busy machine is slow: this ends hangs, it measures nothing. */
  readonly bootTimeoutMs?: number;
  readonly onProgress?: (line: string) => void;
}

export interface Guest extends AsyncDisposable {
  readonly kernel: Kernel;
  readonly dir: string;
  /** The guest's physical memory as a file; it stands still between `freeze` and `thaw`. */
  readonly memoryPath: string;
  readonly pieces: readonly MemoryPiece[];
  readonly agent: Agent;
  /** Runs a shell script in the guest; `GuestDied` when the guest panics, ends or is silent for too long. */
  exec(script: string, timeoutMs?: number): Promise<ExecResult>;
  console(): Promise<string>;
  qmp(command: string, args?: { readonly [key: string]: unknown }): Promise<unknown>;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** QEMU's ELF core of the guest (`dump-guest-memory`, physical addresses); gives its path. */
  dumpVmcore(): Promise<string>;
  /** Waits for the console to show a panic, for guests that are meant to. */
  panicked(timeoutMs?: number): Promise<void>;
}

let serial = 0;

const panicPattern = /Kernel panic - not syncing|BUG: unable to handle|Oops: /;

/** Settles with the reason once the guest has died: QEMU ended, or the console shows a panic. */
function watchForDeath(machine: Machine, consolePath: string, stopped: AbortSignal): Promise<string> {
  const died = Promise.withResolvers<string>();
  machine.child.exited.then((status) => died.resolve(`QEMU ended with status ${status}`));
  const timer = setInterval(async () => {
    const text = await readFile(consolePath, "utf8").catch(() => "");
    const panic = panicPattern.exec(text);
    if (panic !== null) died.resolve(text.slice(panic.index).split("\n")[0] ?? "panic");
  }, 500);
  stopped.addEventListener("abort", () => clearInterval(timer));
  return died.promise;
}

async function initrdFor(kernel: Kernel, dir: string, overlays: readonly Uint8Array[]): Promise<string> {
  const base = await baseInitramfs(kernel.arch);
  if (overlays.length === 0) return base;
  const path = join(dir, "initrd");
  await copyFile(base, path);
  for (const overlay of overlays) await writeFile(path, overlay, { flag: "a" });
  return path;
}

/** Boots a guest to its agent. */
export async function startGuest(options: StartOptions): Promise<Guest> {
  const progress = options.onProgress ?? (() => {});
  progress(`kernel ${options.kernel}`);
  const kernel = await fetchKernel(options.kernel);
  const dir = options.dir ?? join(labDir(), "runs", `${options.kernel}-${process.pid}-${++serial}`);
  await rm(join(dir, "mem"), { force: true });
  await mkdir(dir, { recursive: true });
  const initrd = await initrdFor(kernel, dir, options.overlays ?? []);
  const memoryMiB = options.memoryMiB ?? 512;
  const machineOptions = { kernel, initrd, dir, memoryMiB, cpus: options.cpus ?? 2, interactive: false };
  const machine = await startQemu({ ...machineOptions, fiveLevel: options.fiveLevel ?? true });
  try {
    progress(`boot ${kernel.release}`);
    const guest = await attach(machine, kernel, dir, memoryMiB, options.dir === undefined);
    await guest.untilReady(options.bootTimeoutMs ?? 180_000);
    return guest;
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

interface Booting extends Guest {
  untilReady(timeoutMs: number): Promise<void>;
}

async function attach(
  machine: Machine,
  kernel: Kernel,
  dir: string,
  memoryMiB: number,
  temporary: boolean,
): Promise<Booting> {
  const consolePath = join(dir, "con.txt");
  const agent = connectAgent(join(dir, "agent"));
  agent.ready.catch(() => {});
  const stopped = new AbortController();
  const death = watchForDeath(machine, consolePath, stopped.signal);
  const flatView = await machine.qmp.command("human-monitor-command", { "command-line": "info mtree -f" });
  const pieces = piecesIn(String(flatView), memoryMiB * 1024 * 1024);
  const console = (): Promise<string> => readFile(consolePath, "utf8").catch(() => "");
  const orDeath = async <T>(work: Promise<T>, what: string, timeoutMs: number): Promise<T> => {
    const late = Promise.withResolvers<string>();
    const timer = setTimeout(() => late.resolve(`${what}: no answer in ${timeoutMs / 1000} s`), timeoutMs);
    const failed = Promise.race([death, late.promise]).then(async (why): Promise<never> => {
      const kept = join(labDir(), "died", `${kernel.name}-${process.pid}-${Date.now()}.txt`);
      const text = await console();
      await mkdir(join(labDir(), "died"), { recursive: true });
      await writeFile(kept, text);
      throw new GuestDied(why, text, kept);
    });
    failed.catch(() => {});
    // QEMU's own end closes the port a moment before it is reaped: let the death speak first.
    const answer = work.catch(async (error: unknown): Promise<T> => {
      await Bun.sleep(1000);
      throw error;
    });
    try {
      return await Promise.race([answer, failed]);
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    kernel,
    dir,
    memoryPath: join(dir, "mem"),
    pieces,
    agent,
    console,
    exec: (script, timeoutMs = 300_000) => orDeath(agent.exec(script), "a command in the guest", timeoutMs),
    qmp: (command, args) => machine.qmp.command(command, args),
    freeze: async () => void (await machine.qmp.command("stop")),
    thaw: async () => void (await machine.qmp.command("cont")),
    async dumpVmcore(): Promise<string> {
      const path = join(dir, "vmcore");
      await machine.qmp.command("dump-guest-memory", { paging: false, protocol: `file:${path}` });
      return path;
    },
    async panicked(timeoutMs = 60_000): Promise<void> {
      const late = Bun.sleep(timeoutMs).then(() => undefined);
      if ((await Promise.race([death, late])) === undefined)
        throw new LabError(`lab: no panic on the console in ${timeoutMs / 1000} s`);
    },
    untilReady: (timeoutMs) => orDeath(agent.ready, "boot", timeoutMs),
    async [Symbol.asyncDispose](): Promise<void> {
      stopped.abort();
      agent[Symbol.dispose]();
      await machine[Symbol.asyncDispose]();
      for (const name of ["qmp", "agent", "initrd"]) await rm(join(dir, name), { force: true });
      if (temporary && existsSync(dir)) await rm(dir, { recursive: true, force: true });
    },
  };
}
