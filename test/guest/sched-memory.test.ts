/** Resident pages of a memory file while the tasks of a machine are read. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeSchedMachine } from "../../bench/sched-machine.ts";
import { pageSize } from "../../src/ffi.ts";
import { ImageFile } from "../../src/guest/image/file.ts";
import { type OpenedKernel, openKernel } from "../../src/guest/kernel/kernel.ts";
import { requireSymbol } from "../../src/guest/kernel/symbols.ts";
import { toBigInt } from "../../src/guest/memory/pointer.ts";
import { readJiffies } from "../../src/guest/sched/jiffies.ts";
import { readRunQueues } from "../../src/guest/sched/run-queues.ts";
import { schedulersOf } from "../../src/guest/sched/scx-sched.ts";
import { ScxTasks } from "../../src/guest/sched/scx-task.ts";

const SAMPLE = join(import.meta.dir, "../../sample/sid.vmcore.zst");
const CPUS = 64;
const TASKS = 9000;
/** Three tasks use a slab of 32 KiB. */
const TASK_MIB = (TASKS / 3) * (32 / 1024);

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-sched-memory-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Size in MiB of a file's pages that the kernel counts as resident in this process. */
function residentMib(path: string): number {
  let kilobytes = 0;
  let isOfFile = false;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isOfFile = line.endsWith(path);
    else if (isOfFile && line.startsWith("Rss:")) kilobytes += Number(/\d+/.exec(line)?.[0]);
  }
  return kilobytes / 1024;
}

/** Size in MiB of all pages of files that are resident in this process (`task_statm`, field `shared`). Faster than smaps. */
const filesMib = (): number =>
  (Number(readFileSync("/proc/self/statm", "utf8").split(" ")[2]) * pageSize()) / 2 ** 20;

/** The types of the sample's kernel. */
function typesOf(): string {
  using kernel = openKernel({ memory: [{ path: SAMPLE }] });
  const [start, stop] = ["__start_BTF", "__stop_BTF"].map((name) => requireSymbol(kernel.symbols, name));
  const length = Number(toBigInt(stop!.hi, stop!.lo) - toBigInt(start!.hi, start!.lo));
  const path = join(folder, "types");
  writeFileSync(path, kernel.memory.copy(start!.hi, start!.lo, 0, length, "__start_BTF"));
  return path;
}

test("released pages are not resident, and windows still show the file", () => {
  const path = join(folder, "pages");
  writeFileSync(path, new Uint8Array(4 * 2 ** 20).fill(7));
  using file = new ImageFile(path);
  const window = file.window(0, file.sizeBytes);
  const sum = (): number => window.reduce((total, byte) => total + byte, 0);
  expect(sum()).toBe(7 * file.sizeBytes);
  expect(residentMib(path)).toBe(4);
  file.releasePages();
  expect(residentMib(path)).toBe(0);
  expect(sum()).toBe(7 * file.sizeBytes);
});

test("reading all tasks of a machine keeps less than half of them resident", () => {
  const path = makeSchedMachine(folder, typesOf(), CPUS, TASKS);
  using kernel = openKernel({ memory: [{ path, physical: 0 }] });
  const before = filesMib();
  let most = 0;
  const observed: OpenedKernel = Object.create(kernel, {
    memory: { value: kernel.memory },
    symbols: { value: kernel.symbols },
    btf: { value: kernel.btf },
    cpus: { value: kernel.cpus },
    limitPages: {
      value: () => {
        most = Math.max(most, filesMib() - before);
        kernel.limitPages();
      },
    },
  });
  const fail = (error: unknown): void => {
    throw error;
  };
  const tasks = new ScxTasks(observed, readJiffies(observed));
  const found = readRunQueues(observed, schedulersOf(observed, fail), tasks, fail);
  expect(found.tasks).toHaveLength(TASKS);
  expect(found.queues.reduce((total, queue) => total + queue.tasks.length, 0)).toBe(TASKS);
  expect(most).toBeGreaterThan(0);
  expect(Math.max(most, filesMib() - before)).toBeLessThan(TASK_MIB / 2);
}, 30_000);
