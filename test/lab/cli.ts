/** `bun run lab`: the lab's commands. */
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { KtstrError, UsageError } from "../../src/errors.ts";
import { buildBpftool } from "./bpftool.ts";
import { labDir } from "./cache.ts";
import { CAPTURES_PATH, makeCaptures, makeSample, SAMPLE_PATH } from "./captures.ts";
import { type BootOptions, bootGuest, type FrozenImage, openImage, writeMeta } from "./frozen.ts";
import { fetchKernel, type KernelName, kernelBtf, kernelNames, kernelSources } from "./kernels.ts";
import { ktstrOverlay } from "./ktstr.ts";
import { loadOverlay } from "./load.ts";
import { frozenRow, type RowName, type RowResult, rowNames, rows, runRow, tableOf } from "./matrix.ts";
import { updateLists } from "./packages.ts";
import { x86Machines } from "./qemu.ts";
import { type SchedulerName, schedulerNames } from "./schedulers.ts";
import { shell } from "./shell.ts";
import { stallKinds } from "./stall/run.ts";
import { hostArch } from "./toolchain.ts";

const help = `Boots real kernels under QEMU, for ktstr's tests and by hand.

  bun run lab boot   [machine] [load] [--out DIR]   boots a guest, runs the load, collects answers, freezes the guest;
                                                    writes memory, answers and console to DIR
  bun run lab shell  [machine] [--ktstr]            opens a guest's shell on this terminal (Ctrl-A X ends it)
  bun run lab fetch  [--kernel K]... [--update]     fetches kernels and userland, builds schedulers and zoo, into the cache
  bun run lab matrix [--row R]... [--ci] [--times N] [--out DIR]   boots every row and prints a table
  bun run lab sample                                boots a guest and makes the capture of \`ktstr --sample\`
  bun run lab captures [--from DIR]                 makes the captures in test/fixtures; DIR is the --out of \`matrix\`
  bun run lab bpftool [--arch amd64|arm64]          prints the path of bpftool 7.8 with \`pids\` and the disassembler;
                                                    builds it if it is not in the cache
  bun run lab clean                                 removes what failed and unfinished runs left; keeps the cache

machine: --kernel ${kernelNames.join("|")} (default sid), --cpus N, --memory 3G|512M, --no-5level (x86-64: 4-level paging),
         --machine q35|pc|microvm (x86-64; default q35), --numa N (2 to 4 nodes, each with its own memory file),
         --append WORDS (added to the kernel's command line, such as nokaslr)
load:    --scheduler ${schedulerNames.join("|")}
         --stall ${stallKinds.join("|")}: the lab's own scheduler, frozen during
         its stall, or with --ejected after the kernel has ejected it
         --zoo, --ktstr (Bun and this project in /ktstr), --panic, --vmcore
rows:    ${rowNames.join(", ")}

  bun run lab boot --kernel sid --cpus 4 --memory 3G --scheduler scx_flatcg
  bun run lab boot --kernel sid --stall lost-comm
  bun run lab shell --kernel arm64-16k --ktstr
  bun run lab matrix --row 6.1 --row panicked --times 10

The cache is ${labDir()} (KTSTR_LAB_DIR sets another folder).
`;

const machineOptions = {
  kernel: { type: "string", default: "sid" },
  cpus: { type: "string" },
  memory: { type: "string" },
  "no-5level": { type: "boolean", default: false },
  machine: { type: "string" },
  numa: { type: "string" },
  append: { type: "string" },
  ktstr: { type: "boolean", default: false },
} as const satisfies ParseArgsOptionsConfig;

const bootFlags = {
  ...machineOptions,
  scheduler: { type: "string" },
  stall: { type: "string" },
  ejected: { type: "boolean", default: false },
  zoo: { type: "boolean", default: false },
  panic: { type: "boolean", default: false },
  vmcore: { type: "boolean", default: false },
  out: { type: "string" },
} as const satisfies ParseArgsOptionsConfig;

function oneOf<T extends string>(what: string, value: string, among: readonly T[]): T {
  const found = among.find((each) => each === value);
  if (found === undefined) throw new UsageError(`${what} ${value}: not one of ${among.join(", ")}`);
  return found;
}

/** Parses "3G" or "512M". Returns MiB. */
export function memoryMiB(text: string): number {
  const [, digits = "", unit = ""] = /^(\d+)([GM])$/i.exec(text) ?? [];
  const size = Number(digits) * (unit.toUpperCase() === "G" ? 1024 : 1);
  if (size >= 128 && size <= 64 * 1024) return size;
  throw new UsageError(`--memory ${text}: not a size of at least 128M, such as 512M or 3G`);
}

function positive(flag: string, text: string, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= most) return value;
  throw new UsageError(`${flag} ${text}: not a number from 1 to ${most}`);
}

interface MachineValues {
  readonly kernel: string;
  readonly cpus?: string | undefined;
  readonly memory?: string | undefined;
  readonly "no-5level": boolean;
  readonly machine?: string | undefined;
  readonly numa?: string | undefined;
  readonly append?: string | undefined;
  readonly ktstr: boolean;
}

function machineOf(values: MachineValues): BootOptions {
  return {
    kernel: oneOf("--kernel", values.kernel, kernelNames),
    fiveLevel: !values["no-5level"],
    withKtstr: values.ktstr,
    ...(values.cpus === undefined ? {} : { cpus: positive("--cpus", values.cpus, 64) }),
    ...(values.memory === undefined ? {} : { memoryMiB: memoryMiB(values.memory) }),
    ...(values.machine === undefined ? {} : { machine: oneOf("--machine", values.machine, x86Machines) }),
    ...(values.numa === undefined ? {} : { numaNodes: positive("--numa", values.numa, 4) }),
    ...(values.append === undefined ? {} : { append: values.append }),
  };
}

const started = Date.now();

/** Returns a function that prints progress on stderr, if stderr is a terminal. */
function progress(prefix: string): (line: string) => void {
  return (line) => {
    if (!process.stderr.isTTY && process.env["CI"] === undefined) return;
    console.error(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${prefix}${line}`);
  };
}

async function boot(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: bootFlags, strict: true });
  const scheduler: SchedulerName | undefined =
    values.scheduler === undefined ? undefined : oneOf("--scheduler", values.scheduler, schedulerNames);
  const kind = values.stall === undefined ? undefined : oneOf("--stall", values.stall, stallKinds);
  if (kind !== undefined && scheduler !== undefined)
    throw new UsageError("--stall and --scheduler cannot be combined");
  if (values.ejected && (kind === undefined || kind === "healthy"))
    throw new UsageError("--ejected needs --stall with a kind that the kernel ejects");
  const stall = kind === undefined ? {} : { stall: { kind, ejected: values.ejected } };
  const dir = resolve(values.out ?? `frozen-${values.kernel}`);
  if (existsSync(dir) && !existsSync(join(dir, "meta.json")) && (await readdir(dir)).length > 0)
    throw new UsageError(`--out ${dir}: exists and is not the folder of a frozen guest`);
  const { zoo, panic, vmcore } = values;
  const onProgress = progress("");
  const options = { ...machineOf(values), ...stall, zoo, panic, vmcore, dir, onProgress };
  await using guest = await bootGuest(scheduler === undefined ? options : { ...options, scheduler });
  await writeMeta(guest);
  const image = await openImage(dir);
  const pieces = image.pieces.map(
    ({ gpa, size, file }) =>
      `  0x${gpa.toString(16)} + ${size / 1048576} MiB${file === undefined ? "" : ` in ${file}`}`,
  );
  console.log(`${image.kernel.release}\nmemory   ${image.memoryPath}\n${pieces.join("\n")}`);
  if (image.vmcorePath !== undefined) console.log(`vmcore   ${image.vmcorePath}`);
  console.log(`answers  ${image.answers.dir}\nconsole  ${image.consolePath}`);
  return 0;
}

async function fetchAll(args: string[]): Promise<number> {
  const kernel = { type: "string", multiple: true } as const;
  const options = { kernel, update: { type: "boolean", default: false } } as const;
  const { values } = parseArgs({ args, options, strict: true });
  const names = (values.kernel ?? kernelNames).map((name) => oneOf("--kernel", name, kernelNames));
  const updated = new Set<string>();
  for (const name of names) {
    const { suite, arch } = kernelSources[name];
    const say = progress(`${name}: `);
    if (values.update && !updated.has(`${suite}-${arch}`)) await updateLists(suite, arch);
    updated.add(`${suite}-${arch}`);
    const release = await fetchOne(name, say);
    console.log(`${name}  ${release}`);
  }
  return 0;
}

async function fetchOne(name: KernelName, say: (line: string) => void): Promise<string> {
  const { arch, hasSchedExt } = kernelSources[name];
  say("kernel");
  const kernel = await fetchKernel(name);
  await kernelBtf(kernel);
  say("load");
  await loadOverlay({ schedulers: hasSchedExt ? schedulerNames : [], zoo: true }, kernel);
  say("ktstr");
  await ktstrOverlay(arch);
  return kernel.release;
}

async function matrix(args: string[]): Promise<number> {
  const options = {
    row: { type: "string", multiple: true },
    ci: { type: "boolean", default: false },
    times: { type: "string", default: "1" },
    out: { type: "string" },
  } as const;
  const { values } = parseArgs({ args, options, strict: true });
  const chosen: readonly RowName[] = values.row?.map((name) => oneOf("--row", name, rowNames)) ?? rowNames;
  const times = positive("--times", values.times, 1000);
  const results: RowResult[] = [];
  for (const name of chosen.filter((each) => !values.ci || rows[each].ci))
    for (let count = 1; count <= times; count++) {
      const say = progress(`${name}${times > 1 ? ` ${count}/${times}` : ""}: `);
      const result = await runRow(name, say, values.out === undefined ? undefined : resolve(values.out));
      say(`${result.outcome} ${result.detail}`);
      results.push(result);
    }
  console.log(tableOf(results));
  return results.every(({ outcome }) => outcome !== "failed") ? 0 : 1;
}

async function sample(args: string[]): Promise<number> {
  parseArgs({ args, options: {}, strict: true });
  const size = await makeSample(progress(""));
  console.log(`${SAMPLE_PATH}  ${size} bytes`);
  return 0;
}

async function captures(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { from: { type: "string" } }, strict: true });
  const images = new Map<string, FrozenImage>();
  for (const row of rowNames.filter((name) => rows[name].captured))
    images.set(
      row,
      values.from === undefined ? await frozenRow(row) : await openImage(resolve(values.from, row)),
    );
  const size = await makeCaptures(images, progress(""));
  console.log(`${CAPTURES_PATH}  ${size} bytes`);
  return 0;
}

async function shellCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: machineOptions, strict: true });
  return shell(machineOf(values));
}

async function bpftool(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { arch: { type: "string" } }, strict: true });
  const arch = values.arch === undefined ? hostArch() : oneOf("--arch", values.arch, ["amd64", "arm64"]);
  console.log(await buildBpftool(arch));
  return 0;
}

async function clean(args: string[]): Promise<number> {
  parseArgs({ args, options: {}, strict: true });
  for (const name of ["runs", "died", "frozen", "apart"])
    await rm(join(labDir(), name), { recursive: true, force: true });
  return 0;
}

const commands: { readonly [name: string]: (args: string[]) => Promise<number> } = {
  boot,
  fetch: fetchAll,
  matrix,
  shell: shellCommand,
  sample,
  captures,
  bpftool,
  clean,
};

async function main(argv: readonly string[]): Promise<number> {
  const [name = "--help", ...args] = argv;
  if (argv.length === 0 || argv.includes("--help") || argv.includes("-h")) {
    console.log(help.trimEnd());
    return argv.length === 0 ? 2 : 0;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined)
    throw new UsageError(`lab ${name}: there is no such command; see bun run lab --help`);
  return command(args);
}

/** Returns whether the command line is wrong. parseArgs throws a `TypeError` with a code. */
const isUsage = (error: unknown): boolean =>
  error instanceof UsageError ||
  (error instanceof TypeError && String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS"));

if (import.meta.main) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    if (error instanceof KtstrError && error.hint !== "") console.error(error.hint);
    process.exitCode = isUsage(error) ? 2 : 1;
  }
}
