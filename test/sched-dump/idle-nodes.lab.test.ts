/** Idle CPUs of a scheduler with SCX_OPS_BUILTIN_IDLE_PER_NODE, compared with the masks that the kernel gave that scheduler. */
import { describe, expect, test } from "bun:test";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openGuest } from "../../src/guest/guest.ts";
import type { MemorySource } from "../../src/guest/image/image.ts";
import { view } from "../../src/report/view.ts";
import { labSkipReason } from "../lab/availability.ts";
import { cached, keyOf, labDir } from "../lab/cache.ts";
import { cpio } from "../lab/cpio.ts";
import { type Guest, startGuest } from "../lab/guest.ts";
import { GuestDied } from "../lab/guest-watch.ts";
import { fetchKernel, type KernelName } from "../lab/kernels.ts";
import { compileBpf, compileStatic, runBpftool, sysroot, vmlinuxHeader } from "../lab/toolchain.ts";

const kernels: readonly KernelName[] =
  process.env["KTSTR_LAB"] === "all" ? ["6.16", "6.18", "sid", "7.3"] : ["sid"];
const bootMs = 900_000;
const folder = import.meta.dir;

const NODES: readonly (readonly number[])[] = [
  [0, 1],
  [2, 3],
];
const BUSY: readonly number[] = [1, 3];
const REST = NODES.flat().filter((cpu) => !BUSY.includes(cpu));

async function build(out: string): Promise<void> {
  await mkdir(out, { recursive: true });
  const kernel = await fetchKernel("sid");
  const object = join(out, "nodes.bpf.o");
  const include = [await vmlinuxHeader(kernel), join(await sysroot("amd64"), "usr/include")];
  await compileBpf(join(folder, "nodes.bpf.c"), kernel, include, object);
  await writeFile(join(out, "nodes.skel.h"), await runBpftool(["gen", "skeleton", object, "name", "nodes"]));
  await compileStatic("amd64", join(out, "lab-nodes"), [
    ...["-Wall", "-Wextra", "-Wno-unused-function"],
    ...[`-I${out}`, join(folder, "nodes.c")],
  ]);
}

async function buildNodes(): Promise<Uint8Array<ArrayBuffer>> {
  const texts = ["nodes.bpf.c", "nodes.c"].map((name) => Bun.file(join(folder, name)).text());
  const key = keyOf(...(await Promise.all(texts)), build.toString(), compileStatic.toString());
  const dir = await cached(join(labDir(), "nodes", key), build);
  return new Uint8Array(await readFile(join(dir, "lab-nodes")));
}

const SCRIPT = `
/lab-nodes ${BUSY.join(" ")} > /tmp/nodes.log 2>&1 &
pid=$!
i=0
while [ "$(cat /sys/kernel/sched_ext/state)" != enabled ]; do
  if [ $i -ge 300 ] || ! kill -0 $pid; then cat /tmp/nodes.log >&2; exit 1; fi
  usleep 100000; i=$((i+1))
done
cat /sys/devices/system/node/node0/cpulist /sys/devices/system/node/node1/cpulist
`;

/** Number of freezes, and of guests. */
const ATTEMPTS = 8;
const BOOTS = 3;

interface Idle {
  /** CPUs that are idle according to ktstr. */
  readonly ours: readonly number[] | undefined;
  /** CPUs in the masks that the kernel gave the scheduler at the last tick before the freeze. */
  readonly theirs: readonly number[];
  readonly ticks: number;
}

async function frozenIdle(guest: Guest): Promise<Idle> {
  await guest.freeze();
  const starts = new Map(guest.pieces.map(({ file = "mem", fileOffset, gpa }) => [file, gpa - fileOffset]));
  const memory = [...starts].map(
    ([file, physical]): MemorySource => ({ path: join(guest.dir, file), physical }),
  );
  using opened = openGuest({ memory });
  const ours = opened.scheduler().idleCpus;
  const bss = view(opened).map("nodes.bss");
  const masks = bss.global("idle") as readonly (number | bigint)[];
  const theirs = masks.flatMap((mask) => {
    const bits = BigInt(mask);
    return Array.from({ length: 64 }, (_, cpu) => cpu).filter((cpu) => ((bits >> BigInt(cpu)) & 1n) === 1n);
  });
  const ticks = Number(bss.global("ticks"));
  await guest.thaw();
  return { ours, theirs, ticks };
}

const isAtRest = ({ ours, theirs }: Idle): boolean =>
  String(theirs) === String(REST) && String(ours) === String(theirs);

/** If a guest dies, tries again with another one, a bounded number of times. */
async function askAnyGuest(kernel: KernelName): Promise<Idle> {
  for (let boot = 1; ; boot++) {
    try {
      return await askOnce(kernel);
    } catch (error) {
      if (!(error instanceof GuestDied) || boot === BOOTS) throw error;
    }
  }
}

async function askOnce(kernel: KernelName): Promise<Idle> {
  const program = {
    kind: "file",
    path: "lab-nodes",
    data: await buildNodes(),
    executable: true,
  } as const;
  await using guest = await startGuest({
    kernel,
    cpus: 4,
    cpuSockets: 2,
    numaNodes: 2,
    memoryMiB: 768,
    overlays: [cpio([program])],
  });
  const { status, stdout, stderr } = await guest.exec(SCRIPT, 120_000);
  expect([status, stderr]).toEqual([0, ""]);
  expect(new TextDecoder().decode(stdout)).toBe(NODES.map((cpus) => `${cpus[0]}-${cpus.at(-1)}\n`).join(""));
  // A kernel thread may run on an idle CPU at the last tick, or wake between it and the freeze. Then the guest is frozen again.
  let idle = await frozenIdle(guest);
  for (let attempt = 1; attempt < ATTEMPTS && !isAtRest(idle); attempt++) {
    await Bun.sleep(1000);
    idle = await frozenIdle(guest);
  }
  return idle;
}

describe.skipIf((await labSkipReason()) !== "")("idle CPUs of each node", () => {
  test.each(kernels)(
    "are equal to those that the kernel gave the scheduler: %s",
    async (kernel) => {
      const idle = await askAnyGuest(kernel);
      console.log(kernel, idle);
      expect(idle.ticks).toBeGreaterThan(0);
      expect(idle.theirs).toEqual(REST);
      expect(idle.ours).toEqual(idle.theirs as number[]);
    },
    bootMs,
  );
});
