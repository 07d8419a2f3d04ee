/**
 * Running machines, read through their processes. QEMU gets the memory of a frozen guest, in each way in which it can hold RAM,
 * so the raw memory file is the oracle. A guest that runs Linux shows that it continues.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  constants,
  copyFileSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { labSkipReason } from "./availability.ts";
import { bootGuest, type FrozenGuest, type FrozenImage } from "./frozen.ts";
import { frozenRow } from "./matrix.ts";
import { tool } from "./process.ts";
import { connectQmp } from "./qmp.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 600_000;
const manyMs = 600_000;

interface Ran {
  readonly out: string;
  readonly err: string;
  readonly status: number;
}

async function ktstr(...words: readonly string[]): Promise<Ran> {
  const child = Bun.spawn([process.execPath, cli, ...words], { stderr: "pipe" });
  const [out, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { out, err, status };
}

/** Queries a machine by its socket. */
const nameOf = (socket: string): string => socket.replaceAll("/", "-");

const PAUSED = /^the machine was paused for (\d+) ms\n$/;

/** Returns the state of the process's first thread (proc_pid_stat(5)). */
function stateOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.charAt(stat.lastIndexOf(")") + 2);
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await holds()) return;
    await Bun.sleep(50);
  }
  throw new Error(`not in 30 s: ${what}`);
}

async function isRunning(socket: string): Promise<boolean> {
  using qmp = await connectQmp(socket);
  return ((await qmp.command("query-status")) as { running: boolean }).running;
}

describe.skipIf((await labSkipReason()) !== "")("QEMU with the memory of a frozen guest", () => {
  let folder = "";
  let image: FrozenImage;
  let raw = "";
  const machines: Bun.Subprocess[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-vm-"));
    image = await frozenRow("6.1");
    raw = (await ktstr("-j", "inspect", "--memory", image.memoryPath)).out;
    expect(raw.length).toBeGreaterThan(100_000);
  }, bootMs);
  afterAll(async () => {
    for (const machine of machines) machine.kill("SIGKILL");
    await Promise.all(machines.map(({ exited }) => exited));
    rmSync(folder, { recursive: true, force: true });
  });

  /** QEMU does not run the guest's CPUs, so its memory does not change. */
  async function start(
    kind: "anonymous" | "shared file" | "private file" | "memfd",
    moreBytes = 0,
  ): Promise<{ pid: number; socket: string }> {
    const size = statSync(image.memoryPath).size + moreBytes;
    const copy = join(folder, `mem-${machines.length}`);
    const socket = join(folder, `qmp-${machines.length}`);
    const load = ["-device", `loader,file=${image.memoryPath},addr=0,force-raw=on`];
    const backend = (object: string): string[] => [
      "-machine",
      "q35,memory-backend=m",
      "-object",
      `${object},id=m,size=${size}`,
    ];
    if (kind.endsWith("file")) copyFileSync(image.memoryPath, copy, constants.COPYFILE_FICLONE);
    const memory = {
      anonymous: ["-machine", "q35", ...load],
      "shared file": backend(`memory-backend-file,mem-path=${copy},share=on`),
      "private file": backend(`memory-backend-file,mem-path=${copy},share=off`),
      memfd: [...backend("memory-backend-memfd,share=on"), ...load],
    };
    const child = Bun.spawn(
      [
        ...[
          tool("setpriv"),
          "--pdeathsig",
          "KILL",
          tool("qemu-system-x86_64"),
          "-S",
          "-accel",
          "tcg",
          "-cpu",
          "max",
        ],
        ...["-m", `${size / 2 ** 20}M`, ...memory[kind], "-display", "none", "-nodefaults"],
        ...["-qmp", `unix:${socket},server=on,wait=off`, "-name", `guest=${nameOf(socket)},debug-threads=on`],
      ],
      { stdin: "ignore", stdout: "ignore", stderr: "ignore" },
    );
    machines.push(child);
    // QEMU answers when the memory is loaded.
    await until("QEMU answers", () =>
      isRunning(socket).then(
        () => true,
        () => false,
      ),
    );
    return { pid: child.pid, socket };
  }

  for (const kind of ["anonymous", "shared file", "private file", "memfd"] as const)
    test(
      `${kind}: --vm PID and --vm SOCKET give the same as the memory file, and change nothing`,
      async () => {
        const { pid, socket } = await start(kind);
        const byPid = await ktstr("-j", "inspect", "--vm", `${pid}`);
        expect([byPid.status, byPid.out === raw]).toEqual([0, true]);
        expect(byPid.err).toMatch(PAUSED);
        expect(stateOf(pid)).not.toBe("T");
        // It is already paused, by -S, and stays paused.
        expect(await ktstr("-j", "inspect", "--vm", socket)).toEqual({ out: raw, err: "", status: 0 });
        expect(await isRunning(socket)).toBe(false);
        expect(await ktstr("-j", "inspect", "--vm", `${pid}`, "--no-pause")).toEqual({
          out: raw,
          err: "",
          status: 0,
        });
        process.kill(pid, "SIGSTOP");
        expect(await ktstr("-j", "inspect", "--vm", `${pid}`)).toEqual({ out: raw, err: "", status: 0 });
        expect(stateOf(pid)).toBe("T");
        process.kill(pid, "SIGCONT");
      },
      bootMs,
    );

  test(
    "is found by its name, and captured: the capture gives the same answers as that of the memory file",
    async () => {
      const { pid, socket } = await start("anonymous");
      const named = await ktstr("-j", "inspect", "--vm", nameOf(socket));
      expect([named.status, named.out === raw]).toEqual([0, true]);
      expect(named.err).toMatch(PAUSED);
      const [file, other] = [join(folder, "vm.vmcore"), join(folder, "file.vmcore")];
      const made = await ktstr("capture", "--vm", nameOf(socket), "-o", file);
      expect([made.status, made.err.split("\n").filter((line) => PAUSED.test(`${line}\n`)).length]).toEqual([
        0, 1,
      ]);
      expect(stateOf(pid)).not.toBe("T");
      expect((await ktstr("capture", "--memory", image.memoryPath, "-o", other)).status).toBe(0);
      expect(readFileSync(file).equals(readFileSync(other))).toBe(true);
    },
    bootMs,
  );

  test(
    "reading does not fill memory that the guest never wrote",
    async () => {
      const { pid } = await start("memfd", 256 * 2 ** 20);
      const ram = readdirSync(`/proc/${pid}/fd`)
        .map((fd) => `/proc/${pid}/fd/${fd}`)
        .find((fd) => readlinkSync(fd).startsWith("/memfd:memory-backend-memfd"));
      const blocks = (): number => statSync(ram ?? "").blocks;
      const before = blocks();
      expect(before * 512).toBeLessThan(statSync(image.memoryPath).size + 2 ** 20);
      expect((await ktstr("-j", "inspect", "--vm", `${pid}`)).status).toBe(0);
      expect(blocks()).toBe(before);
    },
    bootMs,
  );

  test(
    "continues when ktstr is killed while it is paused, by a signal or by its socket",
    async () => {
      const { pid, socket } = await start("shared file");
      using qmp = await connectQmp(socket);
      await qmp.command("cont");
      qmp[Symbol.dispose]();
      for (const signal of ["SIGKILL", "SIGTERM", "SIGINT"] as const)
        for (const vm of [`${pid}`, socket]) {
          // Its output is not read, so it blocks in the middle.
          const fifo = join(folder, `fifo-${signal}-${vm === socket}`);
          Bun.spawnSync(["mkfifo", fifo]);
          const child = Bun.spawn([process.execPath, cli, "-j", "inspect", "--vm", vm], {
            stdout: openSync(fifo, constants.O_RDWR),
            stderr: "ignore",
          });
          const sees = `/proc/${child.pid}/task/${child.pid}/wchan`;
          await until("ktstr waits for its reader", () => readFileSync(sees, "latin1").includes("pipe_w"));
          if (vm !== socket) expect(stateOf(pid)).toBe("T");
          child.kill(signal);
          await child.exited;
          await until("the process goes on", () => stateOf(pid) !== "T");
          await until("the machine goes on", () => isRunning(socket));
        }
    },
    bootMs,
  );

  test("a process that is not a machine is an error", async () => {
    const none = await ktstr("inspect", "--vm", "4194303");
    expect([none.status, none.err]).toEqual([1, expect.stringContaining("There is no such process")]);
    const self = await ktstr("inspect", "--vm", `${process.pid}`);
    expect(self.status).toBe(1);
    const both = await ktstr("inspect", "--vm", "1", "--memory", "mem");
    expect([both.status, both.err]).toEqual([
      2,
      expect.stringContaining("cannot be combined with --memory or --sample"),
    ]);
  });
});

describe.skipIf((await labSkipReason()) !== "")("a guest of 1 GiB that runs Linux", () => {
  let guest: FrozenGuest;
  let pid = 0;

  beforeAll(async () => {
    guest = await bootGuest({ kernel: "6.1", memoryMiB: 1024, zoo: true });
    await guest.thaw();
    ({ pid } = guest);
  }, bootMs);
  afterAll(async () => guest?.[Symbol.asyncDispose]());

  test(
    "is inspected 100 times in a row, and continues",
    async () => {
      const uptime = async (): Promise<number> =>
        Number.parseFloat(Buffer.from((await guest.exec("cat /proc/uptime")).stdout).toString());
      const descriptors = readdirSync(`/proc/${pid}/fd`).length;
      const pauses: number[] = [];
      let last = await uptime();
      for (let round = 0; round < 100; round++) {
        const { out, err, status } = await ktstr("-j", "inspect", "--vm", `${pid}`);
        expect([round, status, err.replace(PAUSED, "")]).toEqual([round, 0, ""]);
        expect((JSON.parse(out) as { maps: unknown[] }).maps.length).toBeGreaterThan(30);
        pauses.push(Number(PAUSED.exec(err)?.[1]));
        if (round % 20 !== 19) continue;
        const now = await uptime();
        expect(now).toBeGreaterThan(last);
        last = now;
      }
      await guest.check();
      expect(stateOf(pid)).not.toBe("T");
      expect(readdirSync(`/proc/${pid}/fd`).length).toBe(descriptors);
      pauses.sort((a, b) => a - b);
      console.log(`paused ${pauses[0]} to ${pauses[99]} ms, half of them at most ${pauses[50]} ms`);
    },
    manyMs,
  );
});
