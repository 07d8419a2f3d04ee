/** Runs QEMU as a child process that always ends with this process: its command line, and the location of the guest's RAM. */
import { rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Kernel } from "./kernels.ts";
import type { Arch } from "./packages.ts";
import { LabError, tool } from "./process.ts";
import { connectQmp, type Qmp } from "./qmp.ts";

/** QEMU's machines for x86-64. microvm has no firmware tables and one serial port. */
export const x86Machines = ["q35", "pc", "microvm"] as const;
export type X86Machine = (typeof x86Machines)[number];

export interface MachineOptions {
  readonly kernel: Kernel;
  readonly initrd: string;
  readonly cpus: number;
  /** Sockets with an equal number of CPUs each; QEMU chooses if it is undefined. A socket is on one NUMA node. */
  readonly cpuSockets?: number | undefined;
  readonly memoryMiB: number;
  /** x86-64 only: 5-level page tables (LA57), as `-cpu max` has them. */
  readonly fiveLevel: boolean;
  /** x86-64 only. Default q35. */
  readonly machine?: X86Machine | undefined;
  /** Number of NUMA nodes, of equal size, each with its own memory file: mem, mem1, and so on. Default: no NUMA. */
  readonly numaNodes?: number | undefined;
  /** Words to add to the kernel's command line, such as nokaslr. */
  readonly append?: string | undefined;
  /** The machine's folder: memory file, console, QEMU's errors. */
  readonly dir: string;
  /** A folder for sockets, with a short path: the path of a socket has at most 107 bytes. */
  readonly sockets: string;
  /** Use this terminal as the console. */
  readonly interactive: boolean;
}

/** A contiguous piece of the guest's RAM: its offset in the memory file, its guest physical address, its size in bytes. */
export interface MemoryPiece {
  /** Name of the file if it is not "mem": the file of another NUMA node. */
  readonly file?: string;
  readonly fileOffset: number;
  readonly gpa: number;
  readonly size: number;
}

const agentPort: { readonly [arch in Arch]: string } = { amd64: "ttyS1", arm64: "ttyS0" };

export const qemuFor: { readonly [arch in Arch]: string } = {
  amd64: "qemu-system-x86_64",
  arm64: "qemu-system-aarch64",
};

/** Returns the arguments for RAM: one file, or one per NUMA node. */
function memoryArguments({ dir, memoryMiB, numaNodes }: MachineOptions): string[] {
  const nodes = numaNodes ?? 1;
  const sizeMiB = memoryMiB / nodes;
  const backends = Array.from({ length: nodes }, (_, node) => {
    const name = node === 0 ? "" : String(node);
    const file = `id=m${name},size=${sizeMiB}M,mem-path=${join(dir, `mem${name}`)},share=on`;
    const backend = ["-object", `memory-backend-file,${file}`];
    return numaNodes === undefined ? backend : [...backend, "-numa", `node,nodeid=${node},memdev=m${name}`];
  });
  return backends.flat();
}

/** An emulated microvm has only the old clocks (PIT, RTC), which its kernel uses only without ACPI. */
const MICROVM = "microvm,acpi=off,pit=on,pic=on,rtc=on";

/** Returns the kernel's console and the agent's port. microvm has one ISA port; the agent uses it, so there is no console. */
function serialOf({ kernel, machine }: MachineOptions): { readonly console: string; readonly port: string } {
  if (machine === "microvm") return { console: "", port: "ttyS0" };
  return {
    console: kernel.arch === "amd64" ? "console=ttyS0 " : "console=ttyAMA0 ",
    port: agentPort[kernel.arch],
  };
}

/** Returns QEMU's arguments. The agent's port is the second ISA UART on q35, and a PCI UART on virt, which has one PL011. */
export function qemuArguments(options: MachineOptions): string[] {
  const { kernel, dir, memoryMiB, machine = "q35", numaNodes, append } = options;
  const x86 = kernel.arch === "amd64";
  const { console, port } = serialOf(options);
  const mode = options.interactive ? "lab.shell" : `lab.port=${port} quiet`;
  const cpu = x86 ? (options.fiveLevel ? "max" : "max,la57=off") : "max,pauth-impdef=on";
  const agent = x86 ? ["-serial", "chardev:agent"] : ["-device", "pci-serial,chardev=agent"];
  const consoleFile = ["-chardev", `file,id=console,path=${join(dir, "con.txt")}`];
  const backend = numaNodes === undefined ? ",memory-backend=m" : "";
  // On a busy machine emulated CPUs do not run for seconds, so RCU reports stalls and sched_ext ejects the scheduler.
  const words = `${console}panic=0 ${mode} rcupdate.rcu_cpu_stall_suppress=1${append === undefined ? "" : ` ${append}`}`;
  const { cpus, cpuSockets } = options;
  const smp = `${cpus}${cpuSockets === undefined ? "" : `,sockets=${cpuSockets}`}`;
  return [
    ...["-accel", "tcg,thread=multi", "-cpu", cpu, "-smp", smp, "-m", `${memoryMiB}M`],
    ...["-machine", `${x86 ? (machine === "microvm" ? MICROVM : machine) : "virt"}${backend}`],
    ...memoryArguments(options),
    ...["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"],
    ...["-kernel", kernel.image, "-initrd", options.initrd],
    ...["-append", words],
    ...(options.interactive
      ? ["-serial", "mon:stdio"]
      : [...consoleFile, ...(console === "" ? [] : ["-serial", "chardev:console"])]),
    ...["-chardev", `socket,id=agent,path=${join(options.sockets, "agent")},server=on,wait=off`, ...agent],
    ...["-qmp", `unix:${join(options.sockets, "qmp")},server=on,wait=off`],
  ];
}

const running = new Map<Subprocess, MachineOptions>();

const killAll = (): void => {
  for (const [child, { sockets }] of running) {
    child.kill("SIGKILL");
    rmSync(sockets, { recursive: true, force: true });
  }
};
process.on("exit", killAll);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    killAll();
    process.exit(signal === "SIGINT" ? 130 : 143);
  });
}

export interface Machine extends AsyncDisposable {
  readonly child: Subprocess;
  readonly qmp: Qmp;
}

/** Starts QEMU. `setpriv --pdeathsig` ends it even if this process is killed with SIGKILL. */
export async function startQemu(options: MachineOptions): Promise<Machine> {
  const qemu = tool(qemuFor[options.kernel.arch]);
  await mkdir(options.dir, { recursive: true });
  const stdio = options.interactive ? "inherit" : "ignore";
  const child = Bun.spawn([tool("setpriv"), "--pdeathsig", "KILL", qemu, ...qemuArguments(options)], {
    stdin: stdio,
    stdout: stdio,
    stderr: options.interactive ? "inherit" : Bun.file(join(options.dir, "qemu.txt")),
  });
  running.set(child, options);
  const end = async (): Promise<void> => {
    child.kill("SIGKILL");
    await child.exited;
    running.delete(child);
  };
  try {
    const qmp = await reachQmp(child, options);
    return {
      child,
      qmp,
      async [Symbol.asyncDispose](): Promise<void> {
        qmp[Symbol.dispose]();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

async function reachQmp(child: Subprocess, { dir, sockets }: MachineOptions): Promise<Qmp> {
  const socket = join(sockets, "qmp");
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null) {
      const said = await Bun.file(join(dir, "qemu.txt"))
        .text()
        .catch(() => "");
      throw new LabError(`lab: QEMU ended at its start with status ${child.exitCode}: ${said.trim()}`);
    }
    const qmp = await connectQmp(socket).catch(() => undefined);
    if (qmp !== undefined) return qmp;
    await Bun.sleep(50);
  }
  throw new LabError("lab: QEMU opened no QMP socket in 10 s");
}

/**
 * Returns the pieces of the memory file as QEMU maps them, from the flat view of system memory (`info mtree -f`): lines such
 * as `0000000100000000-000000013fffffff (prio 0, ram): m @0000000080000000`. Ranges of devices split a piece; two parts are
 * joined if their distance in the file equals their distance in memory.
 */
export function piecesIn(flatView: string, memoryBytes: number): MemoryPiece[] {
  const view = flatView.split(/^FlatView/m).find((part) => /Root memory region: system/.test(part)) ?? "";
  const lines = view.matchAll(
    /^\s*([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\): m(\d*)(?: @([0-9a-f]{16}))?\s*$/gm,
  );
  const pieces: MemoryPiece[] = [];
  for (const [, first = "0", last = "0", node = "", at = "0"] of lines) {
    const gpa = Number.parseInt(first, 16);
    const file = node === "" ? {} : { file: `mem${node}` };
    const size = Number.parseInt(last, 16) + 1 - gpa;
    const next: MemoryPiece = { ...file, gpa, fileOffset: Number.parseInt(at, 16), size };
    const before = pieces.at(-1);
    if (
      before !== undefined &&
      before.file === next.file &&
      before.gpa - before.fileOffset === next.gpa - next.fileOffset
    )
      pieces[pieces.length - 1] = { ...before, size: next.gpa + next.size - before.gpa };
    else pieces.push(next);
  }
  const mapped = pieces.reduce((sum, { size }) => sum + size, 0);
  if (mapped === memoryBytes) return pieces;
  throw new LabError(`lab: QEMU maps ${mapped} bytes of RAM, but the guest has ${memoryBytes}`);
}
