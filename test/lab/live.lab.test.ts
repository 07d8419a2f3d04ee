import { describe, expect, test } from "bun:test";
import { withoutBpftools } from "../guest/images.ts";
import { missing, parseExact } from "../live/bpftool.ts";
import { labSkipReason } from "./availability.ts";
import { bootGuest, type FrozenGuest } from "./frozen.ts";
import { GuestDied } from "./guest-watch.ts";
import { bootOptionsOf, labRows, type RowName } from "./matrix.ts";
import type { ZooAnswers } from "./zoo/answers.ts";

/** Options for the same kernel, through its own memory. */
const KCORE = "--memory /proc/kcore";
const liveMs = 900_000;
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Returns the output of bpftool and ktstr for the same words in the guest. Empty output of bpftool is undefined. */
async function runBoth(
  guest: FrozenGuest,
  words: string,
  from = "",
): Promise<{ theirs: unknown; ours: unknown }> {
  const bpftool = await guest.exec(`bpftool -j ${words}`);
  const ktstr = await guest.exec(`cd /ktstr && bun run ktstr -j ${from} ${words}`);
  const printed = decode(bpftool.stdout).trim();
  // Status 1 means that a queue was read in part; that part is compared anyway.
  if (ktstr.status !== 0 && !ktstr.stderr.includes("incomplete"))
    throw new Error(`ktstr -j ${words}: status ${ktstr.status}: ${ktstr.stderr}`);
  return { theirs: printed === "" ? undefined : parseExact(printed), ours: parseExact(decode(ktstr.stdout)) };
}

async function mapsOneByOne(guest: FrozenGuest): Promise<string> {
  return (await guest.answers.json("map-show"))?.text ?? "[]";
}

/** Run-time counters change between the two readings: ktstr's, which are read later, must not be below bpftool's. */
function settleCounters(theirs: unknown, ours: unknown): string[] {
  const wrong: string[] = [];
  const mine = ours as { [key: string]: number }[];
  for (const [index, prog] of (theirs as { [key: string]: number }[]).entries())
    for (const key of ["run_time_ns", "run_cnt", "recursion_misses"]) {
      const [before, after] = [prog[key], mine[index]?.[key]];
      if (before === undefined) continue;
      if (after === undefined || after < before)
        wrong.push(`$[${index}].${key}: ${after}, bpftool had ${before}`);
      delete prog[key];
    }
  return wrong;
}

/** bpftool lists the users of a BTF object in the order of a hash table. */
function sortIds(list: unknown): void {
  for (const object of list as { [key: string]: unknown }[])
    for (const key of ["prog_ids", "map_ids"]) {
      const ids = object[key];
      if (Array.isArray(ids)) ids.sort((a: number, b: number) => a - b);
    }
}

/** Returns one static map of every type and shape in the zoo that bpftool can print (it prints `[]` for a full queue). */
async function staticMaps(guest: FrozenGuest): Promise<number[]> {
  const zoo = (await guest.answers.json("loader"))?.value as ZooAnswers;
  const chosen = new Map<string, number>();
  for (const map of zoo.maps) {
    const dump = (await guest.answers.mapDump(map.id))?.value;
    if (!map.static || !Array.isArray(dump) || (dump.length === 0 && map.entries.length > 0)) continue;
    const shape = `${map.type} ${map.content} ${map.btf_id > 0} ${map.entries.length > 0}`;
    // A megabyte of JSON takes a second over the serial port.
    if (map.entries.length <= 200 && !chosen.has(shape)) chosen.set(shape, map.id);
  }
  return [...chosen.values()];
}

/** A running guest takes minutes: CI tests the oldest kernel and the newest, `KTSTR_LAB=all` every row. */
const CI_ROWS: readonly RowName[] = ["6.1", "sid-5level"];
const livingRows = process.env["KTSTR_LAB"] === "all" ? labRows() : CI_ROWS;

describe.skipIf((await labSkipReason()) !== "")("live, inside the guest", () => {
  test.each(livingRows.filter((row) => row !== "panicked"))(
    "%s: ktstr's listings and dumps are a superset of bpftool's",
    async (row) => {
      expect(await compareInLivingGuest(row)).toEqual([]);
    },
    liveMs,
  );
});

const ATTEMPTS = 4;
/** From this attempt on, uses a scheduler that runs Bun's threads sooner: bpf(2) gives the same answers under each. */
const EASY_FROM = 3;
const EASY_SCHEDULER = "scx_sdt";

/** A guest that dies, or whose scheduler the kernel ejected, is no failure of ktstr: another one is booted. */
async function compareInLivingGuest(row: RowName, attempt = 1): Promise<string[]> {
  const { scheduler, ...options } = bootOptionsOf(row);
  const easy = attempt < EASY_FROM ? scheduler : EASY_SCHEDULER;
  try {
    return await compareInside({ ...options, ...(scheduler !== undefined && { scheduler: easy }) });
  } catch (error) {
    if (!(error instanceof GuestDied) || attempt === ATTEMPTS) throw error;
    console.warn(`${row}: ${error.message}`);
    return compareInLivingGuest(row, attempt + 1);
  }
}

/** Returns the differences of ktstr from bpftool, both in a row's guest. */
async function compareInside(options: ReturnType<typeof bootOptionsOf>): Promise<string[]> {
  const memoryMiB = Math.max(options.memoryMiB ?? 0, 1536);
  await using guest = await bootGuest({ ...options, withKtstr: true, memoryMiB, vmcore: false });
  await guest.thaw();
  // The load for counters has ended. Next to Bun on emulated CPUs it would wait too long for sched_ext's watchdog.
  await guest.exec("f=/sys/fs/cgroup/lab/cgroup.freeze; [ ! -e $f ] || echo 1 > $f");
  let wrong: string[] | undefined;
  try {
    wrong = await compareAll(guest);
    return wrong;
  } finally {
    if (wrong?.length !== 0) await throwIfGuestDied(guest);
  }
}

/** If the guest died, or its scheduler was ejected, throws this as the reason instead of the answer's error. */
async function throwIfGuestDied(guest: FrozenGuest): Promise<void> {
  await Bun.sleep(1500);
  await guest.exec("true");
}

async function compareAll(guest: FrozenGuest): Promise<string[]> {
  const wrong: string[] = [];
  for (const words of ["map show", "prog show", "link show", "btf show"])
    for (const from of ["", KCORE])
      wrong.push(...(await retryUntilEqual(() => compareListing(guest, words, from))));
  const ids = await staticMaps(guest);
  expect(ids.length).toBeGreaterThan(8);
  for (const id of ids) {
    const words = `map dump id ${id}`;
    // Each of these takes seconds on emulated CPUs.
    for (const from of ids.indexOf(id) < 3 ? ["", KCORE] : [""]) {
      const { theirs, ours } = await runBoth(guest, words, from);
      if (theirs !== undefined) wrong.push(...missingIn(`${from} ${words}`, ours, theirs));
    }
  }
  for (const words of [
    "struct_ops show",
    "struct_ops dump",
    "-j struct_ops dump",
    "perf show",
    "-j perf show",
    "net show",
    "feature probe",
    "-j feature probe kernel",
    "-j token list",
  ])
    await same(guest, words);
  await cgroups(guest);
  await symbols(guest);
  await checkInspect(guest);
  await stacks(guest);
  return wrong;
}

function missingIn(words: string, ours: unknown, theirs: unknown): string[] {
  const tolerance = { off: { loaded_at: 1 } };
  return missing(ours, theirs, tolerance).map((sentence) => `${words}: ${sentence}`);
}

async function compareListing(guest: FrozenGuest, words: string, from: string): Promise<string[]> {
  const { theirs: listed, ours } = await runBoth(guest, words, from);
  // Maps are read one by one: see collectScript.
  const all = words === "map show" ? parseExact(await mapsOneByOne(guest)) : listed;
  const theirs = withoutBpftools(all as unknown[]);
  const wrong = words === "prog show" ? settleCounters(theirs, ours) : [];
  // Before 6.6 bpf(2) does not return the place of perf_event links (bpf_perf_link_fill_link_info); memory has it.
  if (words === "link show" && from === "" && /^([1-5]|6\.[0-5])\./.test(guest.kernel.release))
    for (const link of theirs) delete (link as { bpf_cookie?: unknown }).bpf_cookie;
  if (words === "btf show") for (const list of [theirs, ours]) sortIds(list);
  return [...wrong, ...missingIn(`${from} ${words}`, ours, theirs)];
}

/**
 * Repeats the comparison: the kernel frees objects that bpftool loaded to find holders after a grace period, which is long on
 * emulated CPUs, and until then a listing has them. A difference that stays is reported.
 */
async function retryUntilEqual(compare: () => Promise<string[]>): Promise<string[]> {
  for (let again = 3; ; again--) {
    const wrong = await compare();
    if (wrong.length === 0 || again === 0) return wrong;
    console.warn(`asked again: ${wrong.slice(0, 3).join("; ")}`);
    await Bun.sleep(2000);
  }
}

/** Compares the stack of the first process, which sleeps, through /proc/kcore with the kernel's own. */
async function stacks(guest: FrozenGuest): Promise<void> {
  const ktstr = await guest.exec("cd /ktstr && bun run ktstr -j task stack pid 1");
  if (ktstr.status !== 0) throw new Error(`ktstr task stack: status ${ktstr.status}: ${ktstr.stderr}`);
  const { frames } = JSON.parse(decode(ktstr.stdout)) as { frames: { symbol: string }[] };
  const kernels = decode((await guest.exec("cat /proc/1/stack")).stdout)
    .trim()
    .split("\n");
  const theirs = kernels.map((line) => line.replace(/^\[<0>\] /, ""));
  expect(theirs.length).toBeGreaterThan(2);
  // /proc/PID/stack leaves out the scheduler's own functions.
  expect(frames.map(({ symbol }) => symbol).slice(-theirs.length)).toEqual(theirs);
  const ops = (await guest.answers.text("sched_ext/root/ops"))?.trim();
  if (ops === undefined || !/^(7|6\.1[6-9])/.test(guest.kernel.release)) return;
  const sched = await guest.exec("cd /ktstr && bun run ktstr sched");
  const page = decode(sched.stdout);
  expect([sched.status, page]).toEqual([0, expect.stringContaining(`Scheduler  ${ops} `)]);
  // Only the kernel's memory has these: the page of /sys/kernel/sched_ext says that they are missing.
  expect(page).not.toContain("/proc/kcore:");
  const [, cpus] = /^CPUs \((\d+)\)/m.exec(page) ?? [];
  expect(cpus).toBe(decode((await guest.exec("grep -c ^processor /proc/cpuinfo")).stdout).trim());
  // bun itself is a task of the scheduler.
  expect(page).toMatch(/^ \*[A-Z] +[\d.]+ s +bun\[\d+\]/m);
}

/** Machine code of a program has the same lines from bpf(2) and from the kernel's memory. */
async function symbols(guest: FrozenGuest): Promise<void> {
  const listed = decode((await guest.exec("grep ' t bpf_prog_.*_z_kprobe' /proc/kallsyms")).stdout);
  const start = BigInt(`0x${listed.split(" ")[0]}`);
  const addresses = [0n, 8n, 24n, 48n].map((offset) => (start + offset).toString(16)).join(" ");
  const ask = async (from: string): Promise<unknown> =>
    parseExact(
      decode((await guest.exec(`cd /ktstr && bun src/cli.ts -j ${from} symbol ${addresses}`)).stdout),
    );
  const live = await ask("");
  expect(live).toEqual([0, 1, 2, 3].map(() => expect.objectContaining({ line_num: expect.any(Number) })));
  expect(await ask(KCORE)).toEqual(live);
}

/** Compares the programs of every cgroup with bpftool's, without names of hooks, for which bpftool may have "". */
async function cgroups(guest: FrozenGuest): Promise<void> {
  const names = /"attach_btf_name":"[^"]*",/g;
  for (const words of ["cgroup tree", "cgroup tree /sys/fs/cgroup effective"]) {
    const theirs = decode((await guest.exec(`bpftool -j ${words}`)).stdout);
    const ours = decode((await guest.exec(`cd /ktstr && bun src/cli.ts -j ${words}`)).stdout);
    // Names that are not UTF-8 are last in ktstr's listing.
    const parsed = (json: string): unknown[] =>
      (parseExact(json.trim().replace(names, "")) as { cgroup: string }[]).sort((a, b) =>
        a.cgroup < b.cgroup ? -1 : 1,
      );
    expect(parsed(ours)).toEqual(parsed(theirs));
    expect(ours).toContain("/unlinked");
  }
}

/** Requires that the output of both is equal, byte for byte. */
async function same(guest: FrozenGuest, words: string): Promise<void> {
  const theirs = await guest.exec(`bpftool ${words}`);
  const ours = await guest.exec(`cd /ktstr && bun src/cli.ts ${words}`);
  const printed = ({ status, stdout }: typeof ours): unknown[] => [words, status, decode(stdout)];
  expect(printed(ours)).toEqual(printed(theirs));
  expect(ours.stdout.length).toBeGreaterThan(0);
}

/** `bun run ktstr inspect` works there, as text and as JSON. */
async function checkInspect(guest: FrozenGuest): Promise<void> {
  const text = await guest.exec("cd /ktstr && bun run ktstr inspect");
  if (text.status !== 0) throw new Error(`ktstr inspect: status ${text.status}: ${text.stderr}`);
  expect(decode(text.stdout)).toContain(guest.kernel.release);
  const json = await guest.exec("cd /ktstr && bun run ktstr inspect --json");
  if (json.status !== 0) throw new Error(`ktstr inspect --json: status ${json.status}: ${json.stderr}`);
  const ops = await guest.answers.text("sched_ext/root/ops");
  const { scheduler } = JSON.parse(decode(json.stdout)) as { scheduler?: { ops: string } | null };
  expect(scheduler?.ops).toBe(ops?.trim());
}
