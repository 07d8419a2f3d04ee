/** The rows of the lab's matrix: guests that ktstr is tested on, by name. Runs them, and reports deaths of guests separately. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { labDir } from "./cache.ts";
import { checkImage } from "./check-image.ts";
import {
  type BootOptions,
  bootGuest,
  type FrozenImage,
  frozenImage,
  openImage,
  writeMeta,
} from "./frozen.ts";
import { GuestDied } from "./guest-watch.ts";
import type { EjectedKind, StallKind } from "./stall/run.ts";

export interface Row extends Omit<BootOptions, "dir" | "overlays" | "onProgress"> {
  readonly about: string;
  /** Whether CI runs it. */
  readonly ci: boolean;
  /** Whether `bun run lab captures` writes its capture to test/fixtures. */
  readonly captured?: boolean;
}

/** Releases with sched_ext other than sid's. */
const releases = ["6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.3"] as const;
type Release = (typeof releases)[number];

export type StallRowName = `stall-${StallKind}` | `ejected-${EjectedKind}` | `starved-${Release}`;

export type RowName =
  | StallRowName
  | "sid-5level"
  | "sid-4level"
  | "6.12"
  | "6.1"
  | "arm64"
  | "arm64-16k"
  | "panicked"
  | "sid-rt"
  | "sid-cloud"
  | "7.3"
  | "7.2"
  | "7.1"
  | "7.0"
  | "6.19"
  | "6.18"
  | "6.17"
  | "6.16"
  | "5.10";

const stalled = (kind: StallKind, ci = false): Row => ({
  about: kind === "healthy" ? "the lab's scheduler, at work" : "in the middle of a stall",
  ci,
  kernel: "sid",
  stall: { kind, ejected: false },
});

/** The same stall on each release: tasks wait in a queue while it is dumped and when the guest is frozen. */
const starved = Object.fromEntries(
  releases.map((kernel) => [`starved-${kernel}`, { ...stalled("starved"), kernel }]),
) as { readonly [name in `starved-${Release}`]: Row };

const ejected = (kind: EjectedKind): Row => ({
  about: "after the watchdog ejected the scheduler",
  ci: false,
  kernel: "sid",
  stall: { kind, ejected: true },
});

export const rows: { readonly [name in RowName]: Row } = {
  "sid-5level": {
    about: "5-level paging",
    ci: true,
    captured: true,
    kernel: "sid",
    zoo: true,
    scheduler: "scx_sdt",
    modules: ["sch_ingress", "cls_bpf"],
  },
  "sid-4level": {
    about: "4-level paging, 4 CPUs, RAM above the hole below 4 GiB; ELF core",
    ci: true,
    captured: true,
    kernel: "sid",
    zoo: true,
    scheduler: "scx_flatcg",
    vmcore: true,
    fiveLevel: false,
    cpus: 4,
    memoryMiB: 3072,
  },
  "6.12": {
    about: "no sched_ext; a module's BTF",
    ci: true,
    captured: true,
    kernel: "6.12",
    zoo: true,
    modules: ["dummy", "sch_ingress", "cls_bpf"],
  },
  "6.1": {
    about: "older layouts, no arena; a module's BTF",
    ci: true,
    captured: true,
    kernel: "6.1",
    zoo: true,
    modules: ["dummy", "sch_ingress", "cls_bpf"],
  },
  arm64: {
    about: "4K pages; ELF core",
    ci: false,
    captured: true,
    kernel: "arm64",
    zoo: true,
    scheduler: "scx_sdt",
    vmcore: true,
  },
  "arm64-16k": {
    about: "16K pages",
    ci: false,
    captured: true,
    kernel: "arm64-16k",
    zoo: true,
    scheduler: "scx_flatcg",
  },
  panicked: {
    about: "panicked by sysrq with everything loaded",
    ci: false,
    captured: true,
    kernel: "sid",
    zoo: true,
    scheduler: "scx_sdt",
    panic: true,
  },
  "sid-rt": { about: "PREEMPT_RT", ci: false, kernel: "sid-rt", zoo: true, scheduler: "scx_simple" },
  "sid-cloud": { about: "few drivers", ci: false, kernel: "sid-cloud", zoo: true, scheduler: "scx_flatcg" },
  "7.3": { about: "the newest release", ci: false, kernel: "7.3", zoo: true, scheduler: "scx_sdt" },
  "7.2": { about: "layouts of its release", ci: false, kernel: "7.2", zoo: true, scheduler: "scx_simple" },
  "7.1": { about: "layouts of its release", ci: false, kernel: "7.1", zoo: true, scheduler: "scx_flatcg" },
  // Not scx_central: this kernel ejects it when it moves a task with disabled migration, such as bpftool.
  "7.0": { about: "layouts of its release", ci: false, kernel: "7.0", zoo: true, scheduler: "scx_flatcg" },
  "6.19": { about: "layouts of its release", ci: false, kernel: "6.19", zoo: true, scheduler: "scx_simple" },
  "6.18": { about: "layouts of its release", ci: false, kernel: "6.18", zoo: true, scheduler: "scx_flatcg" },
  "6.17": {
    about: "a scheduler that decides on one CPU",
    ci: false,
    kernel: "6.17",
    zoo: true,
    scheduler: "scx_central",
    cpus: 4,
  },
  "6.16": {
    about: "the first release of the lab with sched_ext",
    ci: false,
    kernel: "6.16",
    zoo: true,
    scheduler: "scx_simple",
  },
  "5.10": {
    about: "no kallsyms addresses in VMCOREINFO",
    ci: false,
    kernel: "5.10",
    zoo: true,
  },
  "stall-healthy": stalled("healthy"),
  "stall-lost-comm": stalled("lost-comm", true),
  "stall-lost-dsq": {
    ...stalled("lost-dsq"),
    about: "what --sample reads: a stalled scheduler, and the zoo; ELF core",
    zoo: true,
    vmcore: true,
    memoryMiB: 1024,
  },
  "stall-pinned": stalled("pinned"),
  "stall-slice-inf": stalled("slice-inf"),
  "stall-loop": {
    ...stalled("loop"),
    about: "a program of the scheduler does not return; ELF core",
    vmcore: true,
  },
  "stall-rt-hog": stalled("rt-hog"),
  "stall-near": stalled("near"),
  "stall-held": stalled("held"),
  "stall-rt-all": stalled("rt-all"),
  "stall-starved": stalled("starved"),
  "stall-dl-all": stalled("dl-all"),
  "stall-kicked": stalled("kicked"),
  ...starved,
  "ejected-lost-comm": ejected("lost-comm"),
  "ejected-lost-dsq": ejected("lost-dsq"),
  "ejected-pinned": ejected("pinned"),
  "ejected-slice-inf": ejected("slice-inf"),
  "ejected-loop": ejected("loop"),
  "ejected-rt-hog": ejected("rt-hog"),
};

export const rowNames: readonly RowName[] = Object.keys(rows) as RowName[];

const isBooted = (name: RowName): boolean => rows[name].ci || process.env["KTSTR_LAB"] === "all";

/** Returns the rows with the zoo that tests boot: those of CI, or all under KTSTR_LAB=all. */
export function labRows(): RowName[] {
  return rowNames.filter((name) => isBooted(name) && rows[name].stall === undefined);
}

/** Returns the rows with the lab's own scheduler that tests boot. */
export function stallRows(): StallRowName[] {
  return rowNames.filter((name): name is StallRowName => isBooted(name) && rows[name].stall !== undefined);
}

/** Returns a row's frozen image, which is booted once for all tests. Do not write into its folder. */
export function frozenRow(name: RowName): Promise<FrozenImage> {
  // Tests expect the zoo in every image of the folder `frozen`.
  return frozenImage(name, bootOptionsOf(name), rows[name].stall === undefined ? "frozen" : "apart");
}

export function bootOptionsOf(name: RowName): Omit<BootOptions, "dir" | "overlays"> {
  const { about: _about, ci: _ci, captured: _captured, ...options } = rows[name];
  const withCode = process.env["KTSTR_LAB"] === "all" && options.zoo === true && options.stall === undefined;
  return withCode ? { ...options, withCode } : options;
}

export interface RowResult {
  readonly row: RowName;
  readonly outcome: "ok" | "guest died" | "failed";
  readonly seconds: number;
  readonly release: string;
  readonly maps: number;
  readonly progs: number;
  /** Guests that died before one succeeded. */
  readonly deaths: number;
  readonly detail: string;
}

/** Boots a row, freezes it, checks the image against its answers, and removes it unless `keepIn` gives a folder. */
export async function runRow(
  name: RowName,
  onProgress: (line: string) => void,
  keepIn?: string,
): Promise<RowResult> {
  const dir = keepIn === undefined ? join(labDir(), "runs", `${name}-${process.pid}`) : join(keepIn, name);
  const started = Date.now();
  const seconds = (): number => Math.round((Date.now() - started) / 100) / 10;
  const nothing = { release: "", maps: 0, progs: 0, deaths: 0 };
  try {
    let deaths = 0;
    {
      await using guest = await bootGuest({ ...bootOptionsOf(name), dir, onProgress });
      deaths = guest.deaths.length;
      await writeMeta(guest);
    }
    const image = await openImage(dir);
    const { maps, progs } = await checkImage(image);
    const { release } = image.kernel;
    return { row: name, outcome: "ok", seconds: seconds(), release, maps, progs, deaths, detail: "" };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    const outcome = error instanceof GuestDied ? "guest died" : "failed";
    const where = error instanceof GuestDied ? ` (console: ${error.consolePath})` : "";
    return { row: name, outcome, seconds: seconds(), ...nothing, detail: detail + where };
  } finally {
    if (keepIn === undefined) await rm(dir, { recursive: true, force: true });
  }
}

/** Returns the results as a text table. */
export function tableOf(results: readonly RowResult[]): string {
  const head = ["row", "kernel", "outcome", "seconds", "maps", "progs", "died before", ""];
  const lines = results.map((result) => [
    ...[result.row, result.release, result.outcome, result.seconds.toFixed(1)],
    ...[String(result.maps), String(result.progs), String(result.deaths), result.detail],
  ]);
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => (column === 7 ? 0 : (line[column] ?? "").length))),
  );
  const print = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return [head, ...lines].map(print).join("\n");
}
