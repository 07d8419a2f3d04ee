/**
 * Frozen machines of the lab in the RAM of a process that maps it as Firecracker or Cloud Hypervisor do (support/microvm.c), read
 * with `--vm`. Neither program is available. Every answer is that of the raw memory.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LabImage, labImages, testEachMachine } from "./images.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const GIB = 2 ** 30;
const TEST_MS = 300_000;
const skipReason = Bun.which("cc") === null ? "no C compiler" : "";
const images = skipReason === "" ? await labImages() : [];
if (skipReason !== "") test.skip(`microVMs: ${skipReason}`, () => {});

let root = "";
const machines: Bun.Subprocess[] = [];
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "ktstr-microvm-"));
  if (skipReason !== "") return;
  const source = join(import.meta.dir, "support/microvm.c");
  for (const name of ["firecracker", "cloud-hypervisor"]) {
    const built = Bun.spawnSync(["cc", "-O1", "-Wall", "-Werror", "-o", join(root, name), source]);
    expect(built.stderr.toString()).toBe("");
  }
});
afterAll(async () => {
  for (const machine of machines) machine.kill("SIGKILL");
  await Promise.all(machines.map(({ exited }) => exited));
  rmSync(root, { recursive: true });
});

async function inspect(...words: readonly string[]): Promise<readonly [string, string]> {
  const child = Bun.spawn([process.execPath, cli, "-j", "inspect", ...words], { stderr: "pipe" });
  const [out, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect([status, status === 0 ? "" : err]).toEqual([0, ""]);
  return [out, err];
}

/** Starts the program that maps the memory. The last words are arguments that it ignores, such as its name. */
async function start(
  kind: "anonymous" | "guarded" | "memfd" | "memfds" | "snapshot",
  memory: string,
  sizes: readonly [number, number],
  ...words: readonly string[]
): Promise<Bun.Subprocess<"pipe", "pipe", "inherit">> {
  const program = join(root, kind === "memfds" ? "cloud-hypervisor" : "firecracker");
  const child = Bun.spawn([program, kind, memory, ...sizes.map(String), ...words], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  machines.push(child);
  const { value } = await child.stdout.getReader().read();
  expect(Buffer.from(value ?? []).toString()).toBe("ready\n");
  return child;
}

async function stop(machine: Bun.Subprocess<"pipe", "pipe", "inherit">): Promise<void> {
  machine.stdin.end();
  expect(await machine.exited).toBe(0);
}

/** Returns the state of the process (proc_pid_stat(5)). */
const stateOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.charAt(0);

/** Returns the process's resident memory (proc_pid_status(5)). */
const residentKib = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);

const PAUSED = /^the machine was paused for \d+ ms\n$/;

const sizesOf = ({ pieces, memory }: LabImage): readonly [number, number] => {
  const low = pieces[0]!.size;
  return [low, statSync(memory).size - low];
};

for (const kind of ["memfd", "memfds", "snapshot"] as const)
  testEachMachine(
    images,
    `RAM in the mappings of ${kind}: %s`,
    async (image) => {
      const [raw] = await inspect("--memory", image.memory);
      const machine = await start(kind, image.memory, sizesOf(image));
      const before = residentKib(machine.pid);
      const [answer, said] = await inspect("--vm", `${machine.pid}`);
      expect(answer).toBe(raw);
      expect(said).toMatch(PAUSED);
      expect(stateOf(machine.pid)).not.toBe("T");
      // The read allocates no pages in the process.
      expect(residentKib(machine.pid) - before).toBeLessThan(16_384);
      await stop(machine);
    },
    TEST_MS,
  );

// The sizes are those of machines of 3.5 and of 8 GiB; the memory after the frozen machine's is a hole.
for (const [kind, low, high] of [
  ["anonymous", 3, 0.5],
  ["anonymous", 3, 5],
  ["guarded", 3.25, 0.75],
  ["guarded", 3, 5],
] as const)
  testEachMachine(
    images.filter(({ pieces }) => pieces.length === 1 && pieces[0]!.gpa === 0),
    `RAM of ${low} and ${high} GiB in the mappings of ${kind}: %s`,
    async (image) => {
      const memory = join(root, `mem-${machines.length}`);
      Bun.spawnSync(["cp", "--sparse=always", image.memory, memory]);
      truncateSync(memory, (low + high) * GIB);
      const [raw] = await inspect("--memory", memory);
      const machine = await start(kind, memory, [low * GIB, high * GIB]);
      expect((await inspect("--vm", `${machine.pid}`))[0]).toBe(raw);
      await stop(machine);
      rmSync(memory);
    },
    TEST_MS,
  );

testEachMachine(
  images.slice(0, 1),
  "a machine is found by Firecracker's --id, and has RAM of one region: %s",
  async (image) => {
    const [raw] = await inspect("--memory", image.memory);
    const name = `ktstr-${process.pid}`;
    const size = statSync(image.memory).size;
    const machine = await start("anonymous", image.memory, [size, 0], "--id", name);
    expect((await inspect("--vm", name))[0]).toBe(raw);
    await stop(machine);
  },
  TEST_MS,
);
