/**
 * Makes frozen guests: boots them with a load, collects their answers, and stops them. `bootGuest` returns a guest that can
 * be thawed. `frozenImage` returns the folder of a frozen guest, which is made once per row and cached.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Answers, collectAnswers, collectLate, openAnswers } from "./answers.ts";
import { cached, keyOf, labDir, writeWhole } from "./cache.ts";
import { type Guest, type StartOptions, startGuest } from "./guest.ts";
import { GuestDied } from "./guest-watch.ts";
import { fetchKernel, type Kernel, kernelNames, kernelSources } from "./kernels.ts";
import { ktstrOverlay } from "./ktstr.ts";
import { insertModules, loadOverlay, startScheduler, startWorkload, startZoo } from "./load.ts";
import { LabError } from "./process.ts";
import type { MemoryPiece } from "./qemu.ts";
import type { SchedulerName } from "./schedulers.ts";
import { type Stall, stallAndCollect, startStall } from "./stall/run.ts";

export interface BootOptions extends StartOptions {
  /** A sched_ext scheduler to attach, if the kernel has sched_ext. */
  readonly scheduler?: SchedulerName;
  /** The stall of the lab's own scheduler, which is attached instead. Needs two CPUs. */
  readonly stall?: Stall;
  /** Whether to load the BPF zoo. */
  readonly zoo?: boolean;
  /** Names of kernel modules to insert first. They must not depend on other modules. */
  readonly modules?: readonly string[];
  /** Whether to start the workload. Default: only with a scheduler or the zoo. */
  readonly workload?: boolean;
  /** Whether the guest has Bun and the project in /ktstr. Takes 1 GiB of guest memory. */
  readonly withKtstr?: boolean;
  /** Whether the guest panics (sysrq) between its answers and the freeze. */
  readonly panic?: boolean;
  /** Whether to write QEMU's ELF core too. */
  readonly vmcore?: boolean;
  /** Whether the answers include instructions and machine code of every program. Takes minutes. */
  readonly withCode?: boolean;
  /** Maximum number of guests that are booted until one does not die. Default 3. */
  readonly attempts?: number;
}

export interface FrozenGuest extends Guest {
  readonly answers: Answers;
  /** Guests that died before this one. */
  readonly deaths: readonly GuestDied[];
  /** QEMU's ELF core, if it was requested. */
  readonly vmcorePath: string | undefined;
}

/** Boots a guest with its load, collects its answers, and freezes it. If a guest dies, boots another, up to `attempts`. */
export async function bootGuest(options: BootOptions): Promise<FrozenGuest> {
  const scheduler = options.stall === undefined ? options.scheduler : "a scheduler that stalls";
  if (scheduler !== undefined && !kernelSources[options.kernel].hasSchedExt)
    throw new LabError(`lab: ${scheduler} on ${options.kernel}: the kernel has no sched_ext`, {
      hint: `sched_ext schedulers run on ${kernelNames.filter((name) => kernelSources[name].hasSchedExt).join(", ")}`,
    });
  const progress = options.onProgress ?? (() => {});
  progress("load");
  const schedulers = options.scheduler === undefined ? [] : [options.scheduler];
  const load = {
    schedulers,
    zoo: options.zoo === true,
    modules: options.modules ?? [],
    stall: options.stall !== undefined,
  };
  const kernel = await fetchKernel(options.kernel);
  const overlays = [...(options.overlays ?? []), await loadOverlay(load, kernel)];
  if (options.withKtstr === true) overlays.push(await ktstrOverlay(kernel.arch));
  const deaths: GuestDied[] = [];
  for (;;) {
    try {
      return await bootOnce({ ...options, overlays }, deaths);
    } catch (error) {
      if (!(error instanceof GuestDied) || deaths.length + 1 >= (options.attempts ?? 3)) throw error;
      deaths.push(error);
      progress(`${error.message}; again (${error.consolePath})`);
    }
  }
}

async function bootOnce(options: BootOptions, deaths: readonly GuestDied[]): Promise<FrozenGuest> {
  const progress = options.onProgress ?? (() => {});
  const memoryMiB = options.memoryMiB ?? (options.withKtstr === true ? 1536 : 768);
  const mayBeEjected = options.stall?.ejected === true;
  const guest = await startGuest({ ...options, memoryMiB, mayBeEjected });
  try {
    await insertModules(guest, options.modules ?? []);
    if (options.zoo === true) {
      progress("zoo");
      await startZoo(guest);
    }
    if (options.scheduler !== undefined) {
      progress(options.scheduler);
      await startScheduler(guest, options.scheduler);
    }
    if (options.stall !== undefined) {
      progress(`the lab's scheduler (${options.stall.kind})`);
      await startStall(guest, options.stall);
    }
    const isBusy = options.zoo === true || options.scheduler !== undefined || options.stall !== undefined;
    if (options.workload ?? isBusy) await startWorkload(guest);
    progress("answers");
    const answers = await collectAnswers(guest, join(guest.dir, "answers"), options.withCode);
    if (options.stall === undefined) await collectLate(guest, answers.dir);
    else await stallAndCollect(guest, options.stall, answers.dir);
    if (options.panic === true) await guest.panic();
    await guest.freeze();
    // The guest can die between the answers and the freeze, which takes seconds on a slow machine.
    if (options.panic !== true) await guest.check();
    progress("frozen");
    const vmcorePath = options.vmcore === true ? await guest.dumpVmcore() : undefined;
    return { ...guest, answers, deaths, vmcorePath };
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}

/** The contents of a frozen guest's folder. */
export interface FrozenImage {
  readonly dir: string;
  readonly memoryPath: string;
  readonly pieces: readonly MemoryPiece[];
  readonly vmcorePath: string | undefined;
  readonly consolePath: string;
  readonly kernel: Kernel;
  readonly answers: Answers;
}

interface Meta {
  readonly kernel: Kernel;
  readonly pieces: readonly MemoryPiece[];
  readonly deaths: readonly string[];
}

/** Writes the data that `openImage` needs to open a frozen guest's folder later. */
export async function writeMeta(guest: FrozenGuest): Promise<void> {
  const deaths = guest.deaths.map((death) => `${death.message} (${death.consolePath})`);
  const meta: Meta = { kernel: guest.kernel, pieces: guest.pieces, deaths };
  await writeWhole(join(guest.dir, "meta.json"), `${JSON.stringify(meta, null, 2)}\n`);
}

/** Opens a folder that `bun run lab boot` or `frozenImage` wrote. */
export async function openImage(dir: string): Promise<FrozenImage> {
  const meta = JSON.parse(await readFile(join(dir, "meta.json"), "utf8")) as Meta;
  const vmcore = join(dir, "vmcore");
  return {
    dir,
    memoryPath: join(dir, "mem"),
    pieces: meta.pieces,
    vmcorePath: existsSync(vmcore) ? vmcore : undefined,
    consolePath: join(dir, "con.txt"),
    kernel: meta.kernel,
    answers: openAnswers(join(dir, "answers")),
  };
}

/** Sources that do not change a guest: a row's options are in its key, and the rest runs before a boot or after a freeze. */
const NOT_IN_GUESTS: readonly string[] = [
  "availability.ts",
  "captures.ts",
  "check-image.ts",
  "cli.ts",
  "makedumpfile.ts",
  "matrix.ts",
  "shell.ts",
  "zoo/compare.ts",
  "zoo/expect.ts",
];

/** Returns a hash of the lab's and the zoo's sources. An image of other sources is not reused. */
async function sourcesKey(): Promise<string> {
  const names = (await readdir(import.meta.dir, { recursive: true })).filter(
    (name) => /\.(ts|c|h|S)$/.test(name) && !/\.test\.ts$/.test(name) && !NOT_IN_GUESTS.includes(name),
  );
  const texts = names
    .sort()
    .map(async (name) => `${name}\0${await readFile(join(import.meta.dir, name), "utf8")}`);
  return keyOf(...(await Promise.all(texts)));
}

/**
 * Returns the frozen image of a boot. If `folder` of the cache has an image of the same boot, returns that. Do not write into
 * the image's folder.
 */
export async function frozenImage(
  name: string,
  options: Omit<BootOptions, "dir" | "overlays">,
  folder = "frozen",
): Promise<FrozenImage> {
  const kernel = await fetchKernel(options.kernel);
  const { onProgress, ...rest } = options;
  const key = keyOf(kernel.release, JSON.stringify(rest), await sourcesKey());
  const frozen = join(labDir(), folder);
  const path = await cached(join(frozen, `${name}-${key}`), async (fresh) => {
    await dropOlder(frozen, name, key);
    await mkdir(fresh, { recursive: true });
    await using guest = await bootGuest({ ...options, dir: fresh });
    await writeMeta(guest);
  });
  return openImage(path);
}

/** Removes images of the same row that were made by other sources. Each has about a gigabyte. */
async function dropOlder(frozen: string, name: string, key: string): Promise<void> {
  for (const entry of await readdir(frozen)) {
    const [, row, rowKey] = /^(.*)-([0-9a-f]{16})$/.exec(entry) ?? [];
    if (row !== name || rowKey === key) continue;
    // Renamed first, so that no other process opens a folder while it is removed. Open files stay readable.
    const doomed = join(frozen, `.old-${entry}-${process.pid}`);
    await rename(join(frozen, entry), doomed).catch(() => {});
    await rm(doomed, { recursive: true, force: true });
  }
}
