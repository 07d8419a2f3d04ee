/** Detection of the guest's RAM among a process's mappings, and invalid QMP sockets. Real machines: test/lab/vm.lab.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chooseNodes, memoryArgument, nodesIn, placeIn } from "../../src/guest/vm/arguments.ts";
import { findVmByName } from "../../src/guest/vm/find-by-name.ts";
import { chooseMicroVmRam, isMicroVm } from "../../src/guest/vm/microvm.ts";
import { Qmp } from "../../src/guest/vm/qmp.ts";
import { chooseRam, mappingsIn } from "../../src/guest/vm/ram.ts";

const MIB = 2 ** 20;
/** Lines in the kernel's format (fs/proc/task_mmu.c, show_map_vma). */
const MAPS = `55c0e0a00000-55c0e0c00000 r--p 00000000 fe:00 1311 /usr/bin/qemu-system-x86_64
7f0000000000-7f0040000000 rwxp 00000000 00:00 0
7f1000000000-7f1010000000 rw-s 00000000 00:01 77 /memfd:tcg-jit (deleted)
7f2000000000-7f2004000000 rw-s 00000000 00:01 78 /memfd:m (deleted)
7f2004000000-7f2008000000 rw-s 04000000 00:01 78 /memfd:m (deleted)
7f3000000000-7f3008000000 rw-p 00000000 00:00 0
7f3008000000-7f300c000000 rw-p 00000000 00:00 0
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
`;

describe("a guest's RAM", () => {
  const mappings = mappingsIn(MAPS);

  test("is writable and not executable; adjacent parts of one file are one mapping", () => {
    expect(mappings.map(({ start, length, inode }) => [start, length / MIB, inode])).toEqual([
      [0x7f20_0000_0000, 128, 78],
      [0x7f30_0000_0000, 128, 0],
      [0x7f30_0800_0000, 64, 0],
      [0x7ffd_0000_0000, 0x21 / 256, 0],
    ]);
  });

  test("is the mapping with the machine's size, of a file first; without a size the largest", () => {
    expect(chooseRam(mappings, 128 * MIB)?.inode).toBe(78);
    expect(chooseRam(mappings, 64 * MIB)?.start).toBe(0x7f30_0800_0000);
    expect(chooseRam(mappings, 96 * MIB)).toBeUndefined();
    expect(chooseRam(mappings, undefined)?.length).toBe(128 * MIB);
    expect(chooseRam([], undefined)).toBeUndefined();
  });

  test.each([
    ["512", 512 * MIB],
    ["512M", 512 * MIB],
    ["4G", 4096 * MIB],
    ["size=1048576k", 1024 * MIB],
    ["size=2G,slots=2,maxmem=8G", 2048 * MIB],
    ["x", undefined],
  ])("is as large as -m %s says", (argument, bytes) => {
    expect(memoryArgument(["qemu", "-m", argument, "-S"])).toBe(bytes);
  });

  test("has no size with a command line without -m", () => {
    expect([memoryArgument([]), memoryArgument(["qemu", "-m"])]).toEqual([undefined, undefined]);
  });

  test("invalid lines of a hostile list are ignored", () => {
    expect(
      mappingsIn("zz-0 rw-p 0 0 0\n5-3 rw-p 00000000 00:00 0\nffffffffffffffff-0 rw-p 0 0:0 0\n\n"),
    ).toEqual([]);
  });
});

describe("NUMA nodes", () => {
  const words = [
    ...[
      "-object",
      "memory-backend-file,id=b,size=128M,mem-path=/mem/b,,2",
      "-object",
      '{"qom-type":"memory-backend-ram","id":"a","size":134217728}',
    ],
    ...[
      "-numa",
      "node,nodeid=1,memdev=b",
      "-numa",
      "node,nodeid=0,cpus=0-1,memdev=a",
      "-numa",
      "cpu,node-id=0",
    ],
  ];
  const at = (start: number, name: string, inode: number) => ({
    start,
    length: 128 * MIB,
    isShared: inode !== 0,
    inode,
    fileOffset: 0,
    name,
  });

  test("have the objects of the arguments, in the order of their numbers", () => {
    expect(nodesIn(words)).toEqual([
      { id: "a", sizeBytes: 128 * MIB, kind: "memory-backend-ram", path: undefined, order: 1 },
      { id: "b", sizeBytes: 128 * MIB, kind: "memory-backend-file", path: "/mem/b,2", order: 0 },
    ]);
    expect(nodesIn(["-numa", "node,mem=1G"])).toEqual([]);
    expect(nodesIn(["-object", "{", "-numa", "node,nodeid=x,memdev=a", "-numa"])).toEqual([]);
  });

  test("have the mapping of their file, or else the next one in QEMU's order", () => {
    const [ram, file] = [at(0x7000_0000_0000, "", 0), at(0x7100_0000_0000, "/mem/b,2", 7)];
    expect(chooseNodes([at(0x7200_0000_0000, "/mem/b,22", 8), file, ram], nodesIn(words))).toEqual([
      ram,
      file,
    ]);
    const [high, low] = [at(0x7f00_0000_0000, "", 0), at(0x7000_0000_0000, "", 0)];
    const twins = ["x", "y"].flatMap((id) => ["-object", `memory-backend-ram,id=${id},size=128M`]);
    const nodes = nodesIn([...twins, "-numa", "node,memdev=y", "-numa", "node,memdev=x"]);
    expect(chooseNodes([low, high], nodes)).toEqual([low, high]);
    const places: Record<string, number> = { x: low.start + 4096, y: high.start };
    expect(chooseNodes([low, high], nodes, (id) => places[id])).toEqual([high, low]);
  });

  test("without a mapping, or with several candidates, are an error", () => {
    const nodes = nodesIn(["-object", "memory-backend-ram,id=x,size=128M", "-numa", "node,memdev=x"]);
    expect(chooseNodes([], nodes)).toContain('no mapping matches the memory object "x"');
    expect(chooseNodes([at(0, "", 0), at(2 ** 40, "", 0)], nodes)).toContain(
      "2 mappings match the memory object",
    );
  });

  test("have a place in the memory map of QEMU", () => {
    const map = `FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, ram): b

FlatView #1
 Root memory region: system
  0000000000000000-00000000000bffff (prio 0, ram): /objects/a
  00000000000c0000-00000000000dffff (prio 1, rom): b
  0000000100000000-000000017fffffff (prio 0, ram): b @0000000020000000 KVM
`;
    expect([placeIn(map, "a"), placeIn(map, "b"), placeIn(map, "c")]).toEqual([0, 2 ** 32, undefined]);
  });
});

describe("the RAM of Firecracker and Cloud Hypervisor", () => {
  const GIB = 2 ** 30;
  const END = 0x7f00_0000_0000;
  const at = (start: number, length: number, name = "", inode = 0, fileOffset = 0) => ({
    start,
    length,
    isShared: false,
    inode,
    fileOffset,
    name,
  });
  const heap = at(0x5600_0000_0000, 4 * MIB, "[heap]");
  const stack = at(END + MIB, 2 * MIB);

  test("is recognized by the program's name", () => {
    const programs = [
      "/usr/bin/firecracker-v1.10.1-x86_64",
      "cloud-hypervisor",
      "/usr/bin/qemu-system-x86_64",
    ];
    expect(programs.map((program) => isMicroVm([program, "--id", "x"]))).toEqual([true, true, false]);
    expect(isMicroVm([])).toBe(false);
  });

  test("is one mapping, or two that the kernel joined, in which the upper region is first", () => {
    const one = at(END - 2 * GIB, 2 * GIB);
    expect(chooseMicroVmRam([heap, one, stack], true)).toEqual([one]);
    const joined = at(END - 5 * GIB, 5 * GIB);
    expect(chooseMicroVmRam([heap, joined, stack], true)).toEqual([
      at(END - 3 * GIB, 3 * GIB),
      at(END - 5 * GIB, 2 * GIB),
    ]);
    expect(chooseMicroVmRam([heap, joined], false)).toEqual([joined]);
    expect(chooseMicroVmRam([], true)).toEqual([]);
  });

  test.each([3, 3.25])("is two mappings with guard pages between them: %d GiB below the hole", (gib) => {
    const low = at(END - gib * GIB, gib * GIB);
    for (const bytes of [MIB, 8 * GIB]) {
      const high = at(low.start - 8192 - bytes, bytes);
      expect(chooseMicroVmRam([heap, high, low, stack], true)).toEqual([low, high]);
    }
    expect(chooseMicroVmRam([heap, low, stack], true)).toEqual([low]);
  });

  test("is the parts of a file by their offsets, and of several files by their addresses", () => {
    const [low, high] = [
      at(END - 3 * GIB, 3 * GIB, "/memfd:guest_mem (deleted)", 7),
      at(END - 2 * GIB, 2 * GIB, "/memfd:guest_mem (deleted)", 7, 3 * GIB),
    ];
    expect(chooseMicroVmRam([heap, low, high], true)).toEqual([low, high]);
    const [first, second] = [
      at(END, 3 * GIB, "/memfd:ch_ram (deleted)", 8),
      at(END - 3 * GIB, 3 * GIB, "/memfd:ch_ram (deleted)", 9),
    ];
    expect(chooseMicroVmRam([second, first, at(0, 8 * GIB)], true)).toEqual([first, second]);
    const file = [at(END - GIB, GIB, "/srv/mem", 5, 3 * GIB), at(END - 4 * GIB, 3 * GIB, "/srv/mem", 5)];
    expect(chooseMicroVmRam([heap, ...file], true)).toEqual(file.toReversed());
  });
});

describe("a QMP socket", () => {
  let folder = "";
  let serial = 0;
  const servers: Bun.Subprocess[] = [];
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-qmp-"));
  });
  afterAll(() => {
    for (const server of servers) server.kill();
    rmSync(folder, { recursive: true });
  });

  /** Runs in a separate process, because the client waits without an event loop. */
  async function serve(greeting: string, answer: string, times = 1): Promise<string> {
    const path = join(folder, `${serial++}`);
    const code = `require("node:net").createServer((socket) => {
      socket.on("error", () => {});
      ${greeting === "" ? "socket.end();" : `socket.write(${JSON.stringify(greeting)});`}
      socket.on("data", () => socket.write(${JSON.stringify(answer)}.repeat(${times})));
    }).listen(${JSON.stringify(path)}, () => console.log("ready"));`;
    const server = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe" });
    servers.push(server);
    await server.stdout.getReader().read();
    return path;
  }

  const HELLO = '{"QMP":{"version":{},"capabilities":[]}}\n';

  test.each([
    ["it closes", "", "", 1, "QEMU closed it"],
    ["it uses another protocol", "220 mail.example ESMTP\n", "", 1, "the response is not QMP"],
    ["it sends no greeting", '{"event":"RESUME"}\n', "", 1, "it does not send QMP's greeting"],
    [
      "it refuses a command",
      HELLO,
      '{"error":{"desc":"\\u001b[31mno"}}\n',
      1,
      "qmp_capabilities: \\x1b[31mno",
    ],
    ["it sends only events", HELLO, '{"event":"X"}\n', 1001, "there is no response to qmp_capabilities"],
    ["it sends an endless line", HELLO, "x", 2 ** 25, "the response is too long"],
  ])("is an error if %s", async (_, greeting, answer, times, says) => {
    const path = await serve(greeting, answer, times);
    expect(() => new Qmp(path)).toThrow(says);
  });

  test("answers commands, even with events in between, and its process is found", async () => {
    const path = await serve(`${HELLO}{"event":"A"}\n`, '{"event":"B"}\n{"return":{"running":true}}\n');
    using qmp = new Qmp(path);
    expect(qmp.command("query-status")).toEqual({ running: true });
    expect(qmp.pid).toBe(servers.at(-1)?.pid ?? 0);
  });

  test("with a path that is too long is an error", () => {
    expect(() => new Qmp(`/${"x".repeat(200)}`)).toThrow("ENAMETOOLONG");
  });
});

describe("a guest's name", () => {
  const processes: Bun.Subprocess[] = [];
  afterAll(async () => {
    for (const each of processes) each.kill("SIGKILL");
    await Promise.all(processes.map(({ exited }) => exited));
  });
  /** A waiting shell under QEMU's name, with these arguments. */
  async function start(program: string, ...words: readonly string[]): Promise<number> {
    const command = ["/bin/sh", "-c", "echo; read -r end", program, ...words];
    const child = Bun.spawn(command, { argv0: program, stdin: "pipe", stdout: "pipe" });
    processes.push(child);
    await child.stdout.getReader().read();
    return child.pid;
  }
  const unique = `ktstr-${process.pid}`;

  test("is that of -name, in libvirt's form and in the short form, or of Firecracker's --id", async () => {
    const [web, db] = [`${unique}-web`, `${unique}-db`];
    const first = await start("/usr/bin/qemu-system-x86_64", "-name", `guest=${web},debug-threads=on`);
    const second = await start("kvm", "-m", "1G", "-name", db);
    await start("less", "-name", web);
    const third = await start("/usr/bin/firecracker", "--id", `${unique}-micro`);
    expect([findVmByName(web), findVmByName(db), findVmByName(`${unique}-micro`)]).toEqual([
      first,
      second,
      third,
    ]);
  });

  test("of no process, or of two, is an error", async () => {
    const words = ["qemu-system-aarch64", "-name", `${unique}-twice`] as const;
    const twice = [await start(...words), await start(...words)];
    expect(() => findVmByName(`${unique}-twice`)).toThrow(`processes ${twice.join(", ")} have that name`);
    expect(() => findVmByName(`${unique}\x1b[m`)).toThrow(
      "\\x1b[m: no QEMU or Firecracker process has that name",
    );
  });
});
