/** Boots guests and controls them: commands through the agent, freeze, thaw, core. Disposing a guest ends it. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Agent, connectAgent, type ExecResult } from "./agent.ts";
import { buildBpftool } from "./bpftool.ts";
import { labDir } from "./cache.ts";
import { GuestDied, GuestWatch } from "./guest-watch.ts";
import { baseInitramfs } from "./initramfs.ts";
import { fetchKernel, type Kernel, type KernelName } from "./kernels.ts";
import { LabError } from "./process.ts";
import { type Machine, type MemoryPiece, piecesIn, startQemu, type X86Machine } from "./qemu.ts";

export interface StartOptions {
  readonly kernel: KernelName;
  readonly cpus?: number;
  readonly memoryMiB?: number;
  readonly fiveLevel?: boolean;
  /** These four: see `MachineOptions`. */
  readonly cpuSockets?: number;
  readonly machine?: X86Machine;
  readonly numaNodes?: number;
  readonly append?: string;
  /** Archives (cpio, uncompressed) that are unpacked over the base userland. */
  readonly overlays?: readonly Uint8Array[];
  /** Folder for memory, console and answers. Default: a new folder in the cache, which is removed on disposal. */
  readonly dir?: string;
  /** Time from QEMU's start until init answers, after which the guest counts as hung. Emulation on a busy machine is slow. */
  readonly bootTimeoutMs?: number;
  readonly onProgress?: (line: string) => void;
  /** If true, a guest does not count as dead if the kernel ejects its scheduler. */
  readonly mayBeEjected?: boolean;
}

export interface Guest extends AsyncDisposable {
  readonly kernel: Kernel;
  readonly dir: string;
  /** File with the guest's physical memory. It does not change between `freeze` and `thaw`. */
  readonly memoryPath: string;
  readonly pieces: readonly MemoryPiece[];
  /** QEMU's process. */
  readonly pid: number;
  /** Runs a shell script in the guest. Throws `GuestDied` if the guest panics, ends, or does not answer in time. */
  exec(script: string, timeoutMs?: number): Promise<ExecResult>;
  console(): Promise<string>;
  /** Throws `GuestDied` if the console shows a panic, an oops, or a scheduler that the kernel ejected. */
  check(): Promise<void>;
  qmp(command: string, args?: { readonly [key: string]: unknown }): Promise<unknown>;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Writes QEMU's ELF core of the guest (`dump-guest-memory`, physical addresses). Returns its path. */
  dumpVmcore(): Promise<string>;
  /** Makes the kernel panic (sysrq c) and waits until the console shows it. */
  panic(): Promise<void>;
}

let serial = 0;

async function writeInitrd(kernel: Kernel, path: string, overlays: readonly Uint8Array[]): Promise<void> {
  await writeFile(path, await baseInitramfs(kernel.arch, await buildBpftool(kernel.arch)));
  for (const overlay of overlays) await writeFile(path, overlay, { flag: "a" });
}

const BOOTS = 3;
/**
 * A kernel that patches its code first writes a breakpoint for the other CPUs. In rare cases an emulated CPU hits the breakpoint
 * after the kernel has finished the patch and no longer handles it. This is a defect of QEMU, not of the guest.
 */
const EMULATED_DEATH = "Oops: int3";

/** Boots a guest to its agent. */
export async function startGuest(options: StartOptions): Promise<Guest> {
  for (let boot = 1; ; boot++) {
    try {
      return await bootOnce(options);
    } catch (error) {
      const isEmulations = error instanceof GuestDied && error.message.includes(EMULATED_DEATH);
      if (!isEmulations || boot === BOOTS) throw error;
      options.onProgress?.(`boot again: ${error.message}`);
    }
  }
}

async function bootOnce(options: StartOptions): Promise<Guest> {
  const progress = options.onProgress ?? (() => {});
  progress(`kernel ${options.kernel}`);
  const kernel = await fetchKernel(options.kernel);
  const dir = options.dir ?? join(labDir(), "runs", `${options.kernel}-${process.pid}-${++serial}`);
  for (const old of ["mem", "mem1", "mem2", "mem3", "con.txt"]) await rm(join(dir, old), { force: true });
  await mkdir(dir, { recursive: true });
  const initrd = join(dir, "initrd");
  await writeInitrd(kernel, initrd, options.overlays ?? []);
  const sockets = await mkdtemp(join(tmpdir(), "ktstr-lab-"));
  const { cpus = 2, fiveLevel = true, memoryMiB = 512 } = options;
  const temporary = options.dir === undefined ? [dir, sockets] : [initrd, sockets];
  try {
    const machine = await startQemu({
      kernel,
      initrd,
      dir,
      sockets,
      memoryMiB,
      cpus,
      fiveLevel,
      cpuSockets: options.cpuSockets,
      machine: options.machine,
      numaNodes: options.numaNodes,
      append: options.append,
      interactive: false,
    });
    progress(`boot ${kernel.release}`);
    return await attach(
      machine,
      { kernel, dir, sockets, memoryMiB, temporary, mayBeEjected: options.mayBeEjected === true },
      options.bootTimeoutMs ?? 180_000,
    );
  } catch (error) {
    await removeAll(temporary);
    throw error;
  }
}

const removeAll = async (paths: readonly string[]): Promise<void> => {
  for (const path of paths) await rm(path, { recursive: true, force: true });
};

interface Placement {
  readonly kernel: Kernel;
  readonly dir: string;
  readonly sockets: string;
  readonly memoryMiB: number;
  /** Files and folders that are removed with the guest. */
  readonly temporary: readonly string[];
  readonly mayBeEjected: boolean;
}

/** Returns the guest of a started machine when its agent answers. Ends the machine on any failure. */
async function attach(machine: Machine, placement: Placement, bootTimeoutMs: number): Promise<Guest> {
  const { kernel, dir, sockets, memoryMiB, temporary } = placement;
  const watch = new GuestWatch(
    kernel.name,
    join(dir, "con.txt"),
    machine.child.exited,
    placement.mayBeEjected,
  );
  const agent = connectAgent(join(sockets, "agent"));
  const end = async (): Promise<void> => {
    watch.stop();
    agent[Symbol.dispose]();
    await machine[Symbol.asyncDispose]();
    await removeAll(temporary);
  };
  try {
    const flatView = await machine.qmp.command("human-monitor-command", { "command-line": "info mtree -f" });
    const pieces = piecesIn(String(flatView), memoryMiB * 1024 * 1024);
    await watch.guard(agent.ready, "boot", bootTimeoutMs);
    return { ...controlsOf(machine, watch, agent, dir), kernel, dir, pieces, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}

type Controls = Omit<Guest, "kernel" | "dir" | "pieces" | typeof Symbol.asyncDispose>;

function controlsOf(machine: Machine, watch: GuestWatch, agent: Agent, dir: string): Controls {
  return {
    pid: machine.child.pid,
    memoryPath: join(dir, "mem"),
    console: () => watch.console(),
    check: () => watch.check(),
    exec: (script, timeoutMs = 300_000) =>
      watch.guard(agent.exec(script), "a command in the guest", timeoutMs),
    qmp: (command, args) => machine.qmp.command(command, args),
    freeze: async () => void (await machine.qmp.command("stop")),
    thaw: async () => void (await machine.qmp.command("cont")),
    async dumpVmcore(): Promise<string> {
      const path = join(dir, "vmcore");
      await machine.qmp.command("dump-guest-memory", { paging: false, protocol: `file:${path}` });
      return path;
    },
    async panic(): Promise<void> {
      // This command does not return: the guest panics.
      agent.exec("echo c > /proc/sysrq-trigger").catch(() => {});
      const late = Bun.sleep(60_000).then(() => undefined);
      if ((await Promise.race([watch.death, late])) !== undefined) return;
      throw new LabError("lab: the console shows no panic 60 s after sysrq c");
    },
  };
}
