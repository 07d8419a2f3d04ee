import { describe, expect, test } from "bun:test";
import { parseKallsyms } from "./answers.ts";
import { iomemStart, offsetOf } from "./check-image.ts";
import { neededBy } from "./elf-needed.ts";
import { deathIn } from "./guest-watch.ts";
import { carveBtf } from "./kernels.ts";
import { piecesIn, qemuArguments } from "./qemu.ts";

const kernel = { name: "sid", arch: "amd64", suite: "sid", release: "7", image: "/k" } as const;
const base = {
  kernel,
  initrd: "/i",
  cpus: 2,
  memoryMiB: 512,
  fiveLevel: true,
  dir: "/d",
  sockets: "/s",
  interactive: false,
};

describe("QEMU's flat view", () => {
  const view = (lines: string): string =>
    `FlatView #0\n AS "I/O", root: io\n Root memory region: io\n  0000000000000000-0000000000000fff (prio 0, ram): m\n
FlatView #1\n AS "memory", root: system\n Root memory region: system\n${lines}\n`;

  test("RAM behind the hole is a piece of its own, at its offset in the file", () => {
    const lines = `  0000000000000000-000000007fffffff (prio 0, ram): m
  00000000b0000000-00000000bfffffff (prio 0, i/o): pcie-mmcfg-mmio
  0000000100000000-000000013fffffff (prio 0, ram): m @0000000080000000`;
    expect(piecesIn(view(lines), 0xc0000000)).toEqual([
      { fileOffset: 0, gpa: 0, size: 0x80000000 },
      { fileOffset: 0x80000000, gpa: 0x100000000, size: 0x40000000 },
    ]);
  });

  test("what devices shadow inside a run does not split it", () => {
    const lines = `  0000000000000000-000000000009ffff (prio 0, ram): m
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  00000000000e0000-000000001fffffff (prio 0, ram): m @00000000000e0000`;
    expect(piecesIn(view(lines), 0x20000000)).toEqual([{ fileOffset: 0, gpa: 0, size: 0x20000000 }]);
  });

  test("RAM of a further node lies in that node's file", () => {
    const lines = `  0000000000000000-000000000fffffff (prio 0, ram): m
  0000000010000000-000000001fffffff (prio 0, ram): m1`;
    expect(piecesIn(view(lines), 0x20000000)).toEqual([
      { fileOffset: 0, gpa: 0, size: 0x10000000 },
      { file: "mem1", fileOffset: 0, gpa: 0x10000000, size: 0x10000000 },
    ]);
  });

  test("RAM that is not all mapped is an error, not a shorter list", () => {
    const lines = "  0000000040000000-000000004fffffff (prio 0, ram): m";
    expect(() => piecesIn(view(lines), 0x20000000)).toThrow(
      "maps 268435456 bytes of RAM, but the guest has 536870912",
    );
  });
});

describe("QEMU's arguments", () => {
  test("another machine, NUMA nodes with files of their own, more words for the kernel", () => {
    const micro = qemuArguments({ ...base, machine: "microvm", append: "nokaslr" }).join(" ");
    expect(micro).toContain("-machine microvm,acpi=off,pit=on,pic=on,rtc=on,memory-backend=m");
    expect(micro).toContain("-append panic=0 lab.port=ttyS0 quiet rcupdate.rcu_cpu_stall_suppress=1 nokaslr");
    expect(micro).not.toContain("-serial chardev:console");
    const numa = qemuArguments({ ...base, numaNodes: 2 }).join(" ");
    expect(numa).toContain("id=m,size=256M,mem-path=/d/mem,share=on -numa node,nodeid=0,memdev=m");
    expect(numa).toContain("id=m1,size=256M,mem-path=/d/mem1,share=on -numa node,nodeid=1,memdev=m1");
    expect(numa).not.toContain("memory-backend=m");
  });

  test("4-level paging is a CPU without LA57; arm64 has its own machine and serial card", () => {
    expect(qemuArguments(base).join(" ")).toContain("-cpu max -smp 2 -m 512M -machine q35,memory-backend=m");
    expect(qemuArguments({ ...base, fiveLevel: false })).toContain("max,la57=off");
    const arm = qemuArguments({ ...base, kernel: { ...kernel, name: "arm64", arch: "arm64" } }).join(" ");
    expect(arm).toContain("-machine virt,memory-backend=m");
    expect(arm).toContain("-device pci-serial,chardev=agent");
    expect(arm).toContain("console=ttyAMA0 panic=0 lab.port=ttyS0");
  });
});

test("a guest's death is the console's first line of a panic or an oops", () => {
  const console =
    "[    1.0] x\r\n[    2.0] Kernel panic - not syncing: sysrq triggered crash\r\n[    2.1] CPU: 0\r\n";
  expect(deathIn(console)).toBe("Kernel panic - not syncing: sysrq triggered crash");
  expect(deathIn("[    1.0] all is well\n")).toBeUndefined();
  const thrownOut = '[   43.9] sched_ext: BPF scheduler "flatcg" disabled (runtime error)\n';
  expect(deathIn(thrownOut)).toBe('sched_ext: BPF scheduler "flatcg" disabled (runtime error)');
  const ended = '[   43.9] sched_ext: BPF scheduler "simple" disabled (unregistered from user space)\n';
  expect(deathIn(ended)).toBeUndefined();
  expect(deathIn(thrownOut, true)).toBeUndefined();
  expect(deathIn(`${thrownOut}${console}`, true)).toBe("Kernel panic - not syncing: sysrq triggered crash");
});

test("/proc/iomem and /proc/kallsyms give addresses; offsets follow the pieces", () => {
  const iomem = "40000000-5fffffff : System RAM\n  40200000-4270ffff : Kernel code\n";
  expect(iomemStart(iomem, "Kernel code")).toBe(0x40200000);
  expect(iomemStart(iomem, "Kernel data")).toBeUndefined();
  const symbols = parseKallsyms(
    "ffffffffb25d0e60 D linux_banner\nffffc0de00000000 t same\n0000000000000001 t same\n",
  );
  expect(symbols.get("linux_banner")).toBe(0xffffffffb25d0e60n);
  expect(symbols.get("same")).toBe(0xffffc0de00000000n);
  const pieces = [{ fileOffset: 0x1000, gpa: 0x40000000, size: 0x2000 }];
  expect(offsetOf(pieces, 0x40001fff)).toBe(0x2fff);
  expect(offsetOf(pieces, 0x40002000)).toBeUndefined();
});

describe("BTF inside an image", () => {
  const blob = (typeBytes: number, strings: string): Uint8Array => {
    const out = new Uint8Array(24 + typeBytes + strings.length);
    const view = new DataView(out.buffer);
    view.setUint32(0, 0x0001eb9f, true);
    view.setUint32(4, 24, true);
    view.setUint32(12, typeBytes, true);
    view.setUint32(16, typeBytes, true);
    view.setUint32(20, strings.length, true);
    out.set(new TextEncoder().encode(strings), 24 + typeBytes);
    return out;
  };

  test("the largest plausible blob wins; one that runs out of the image is none", () => {
    const small = blob(12, "\0a\0");
    const large = blob(24, "\0long\0");
    const image = new Uint8Array([1, 2, ...small, 3, ...large, ...blob(4096, "\0").subarray(0, 64)]);
    expect(carveBtf(image)).toEqual(large as Uint8Array<ArrayBuffer>);
    expect(carveBtf(new Uint8Array(100))).toBeUndefined();
  });
});

const readelf = Bun.which("readelf");
if (readelf === null) console.warn("skipped: readelf is not there");

test.skipIf(readelf === null)("a program's libraries are those that readelf tells", async () => {
  const program = process.execPath;
  const told = await Bun.$`readelf -dlW ${program}`.text();
  const libraries = [...told.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name ?? "");
  const needed = neededBy(await Bun.file(program).bytes());
  expect(needed.libraries).toEqual(libraries);
  expect(needed.interpreter).toBe(/program interpreter: (.*)\]/.exec(told)?.[1]);
  expect(neededBy(new TextEncoder().encode("#!/bin/sh"))).toEqual({ libraries: [], interpreter: undefined });
});
