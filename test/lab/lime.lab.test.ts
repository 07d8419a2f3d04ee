/**
 * LiME in a guest: Debian's module, built for the guest's kernel, sends the guest's memory over TCP while the guest runs. The
 * contents that do not change are compared with bpftool's earlier answers, and the ranges with the memory file of a later freeze.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import type { LabImage } from "../guest/images.ts";
import { Comparison } from "../guest/support/frozen.ts";
import { connectAgent } from "./agent.ts";
import { collectAnswers } from "./answers.ts";
import { labSkipReason } from "./availability.ts";
import { buildBpftool } from "./bpftool.ts";
import { cpio } from "./cpio.ts";
import type { Guest } from "./guest.ts";
import { baseInitramfs } from "./initramfs.ts";
import { fetchKernel, fetchModules, type Kernel } from "./kernels.ts";
import { loadOverlay, startZoo } from "./load.ts";
import { packageTree } from "./packages.ts";
import { LabError, run, tool } from "./process.ts";
import { qemuArguments, qemuFor } from "./qemu.ts";
import { connectQmp } from "./qmp.ts";

const bootMs = 900_000;
const MEMORY_MIB = 512;
const MIB = 2 ** 20;
const PORT_IN_GUEST = 4444;

/** Builds lime.ko in `folder`, for Debian 12's kernel 6.1. */
async function buildLime(kernel: Kernel, folder: string): Promise<string> {
  const headers = `linux-headers-${kernel.release}`;
  const common = headers.replace(/-amd64$/, "-common");
  const series = /^\d+\.\d+/.exec(kernel.release)?.[0] ?? "";
  const tree = await packageTree("bookworm", "amd64", [
    headers,
    common,
    `linux-kbuild-${series}`,
    "lime-forensics-dkms",
  ]);
  const sources = join(tree, "usr/src");
  const lime = new Bun.Glob("lime-forensics-*").scanSync({ cwd: sources, onlyFiles: false }).next()
    .value as string;
  cpSync(join(sources, lime), folder, { recursive: true });
  // The headers' own Makefile includes the common one by the path at which the package would be installed.
  const makefile = join(sources, common, "Makefile");
  await run([tool("make"), "-C", join(sources, headers), "-f", makefile, `M=${folder}`, "modules"], {
    timeoutMs: 300_000,
  });
  await run([tool("strip"), "--strip-debug", join(folder, "lime.ko")]);
  return join(folder, "lime.ko");
}

/** Returns a port that is free now. */
function freePort(): number {
  using server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  return server.port;
}

/** Receives all bytes from a port. Until the guest sends, QEMU accepts connections and closes them again. */
async function receive(port: number, path: string): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    const output = Bun.file(path).writer();
    const { promise, resolve } = Promise.withResolvers<void>();
    const socket = connect(port, "127.0.0.1");
    socket.on("data", (bytes) => void output.write(bytes));
    socket.on("error", () => {});
    socket.on("close", () => resolve());
    await promise;
    await output.end();
    if (statSync(path).size > 0) return;
    await Bun.sleep(200);
  }
  throw new LabError("lab: LiME sent nothing");
}

const why = await labSkipReason();
describe.skipIf(why !== "")(`LiME in a guest${why === "" ? "" : `: ${why}`}`, () => {
  let folder = "";
  let machine: Bun.Subprocess | undefined;
  let image: LabImage;
  const path = (name: string): string => join(folder, name);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-lime-"));
    const kernel = await fetchKernel("6.1");
    const module = await buildLime(kernel, path("lime"));
    const [network = ""] = await fetchModules(kernel, ["e1000"]);
    const modules = [module, network].map((from, index) => {
      const data = new Uint8Array(readFileSync(from));
      return { kind: "file", path: ["lime.ko", "e1000.ko"][index]!, data } as const;
    });
    const load = await loadOverlay({ schedulers: [], zoo: true }, kernel);
    const base = await baseInitramfs(kernel.arch, await buildBpftool(kernel.arch));
    writeFileSync(path("initrd"), Buffer.concat([base, load, cpio(modules)]));
    const port = freePort();
    const options = { kernel, initrd: path("initrd"), cpus: 2, memoryMiB: MEMORY_MIB, fiveLevel: true };
    machine = Bun.spawn(
      [
        ...[tool("setpriv"), "--pdeathsig", "KILL", tool(qemuFor.amd64)],
        ...qemuArguments({ ...options, dir: folder, sockets: folder, interactive: false }),
        ...["-netdev", `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${port}-:${PORT_IN_GUEST}`],
        ...["-device", "e1000,netdev=net"],
      ],
      { stdin: "ignore", stdout: "ignore", stderr: Bun.file(path("qemu.txt")) },
    );
    while (!existsSync(path("agent"))) await Bun.sleep(100);
    using agent = connectAgent(path("agent"));
    await agent.ready;
    const guest = { exec: (script: string) => agent.exec(script) };
    await startZoo(guest as unknown as Guest);
    mkdirSync(path("answers"));
    await collectAnswers(guest, path("answers"));
    const script = `insmod /e1000.ko && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up &&
      { insmod /lime.ko path=tcp:${PORT_IN_GUEST} format=lime timeout=0 > /tmp/lime.log 2>&1 & }`;
    const { status, stderr } = await guest.exec(script);
    expect([status, stderr]).toEqual([0, ""]);
    await receive(port, path("dump"));
    using qmp = await connectQmp(path("qmp"));
    await qmp.command("stop");
    const answer = (name: string): string | undefined =>
      existsSync(path(`answers/${name}`)) ? readFileSync(path(`answers/${name}`), "utf8") : undefined;
    const answerBytes = (name: string): Uint8Array | undefined =>
      existsSync(path(`answers/${name}`)) ? readFileSync(path(`answers/${name}`)) : undefined;
    image = { name: "lime", memory: path("dump"), vmcore: undefined, pieces: [], answer, answerBytes };
  }, bootMs);

  afterAll(async () => {
    machine?.kill("SIGKILL");
    await machine?.exited;
    if (folder !== "") rmSync(folder, { recursive: true, force: true });
  });

  test("is a LiME dump with every range of the guest's System RAM", () => {
    const iomem = image.answer("iomem") ?? "";
    const ranges = [...iomem.matchAll(/^([0-9a-f]+)-([0-9a-f]+) : System RAM$/gm)].map(
      ([, first = "", last = ""]) => [Number.parseInt(first, 16), Number.parseInt(last, 16)],
    );
    expect(ranges.length).toBeGreaterThan(1);
    using opened = new MemoryImage([{ path: image.memory }]);
    expect([opened.format, opened.warnings]).toEqual(["LiME dump", []]);
    expect(opened.pieces.map(({ physical, length }) => [physical, physical + length - 1])).toEqual(ranges);
    expect(opened.sizeBytes).toBeGreaterThan((MEMORY_MIB - 16) * MIB);
  });

  test("equals the earlier answers of bpftool and the loader in the guest", () => {
    using kernel = openKernel({ memory: [{ path: image.memory }] });
    const { differences, tallies } = new Comparison(image, kernel);
    expect(differences).toEqual([]);
    const elements = [...tallies.values()].reduce((sum, each) => sum + each.elements, 0);
    console.log(`LiME: ${tallies.size} kinds of maps, ${elements} elements`);
    expect(elements).toBeGreaterThan(1000);
  }, 120_000);
});
