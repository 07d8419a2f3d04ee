/** `ktstr vmlinux`, and kernels that are read with their vmlinux. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { FormatError, KtstrError } from "../../src/errors.ts";
import { ElfFile } from "../../src/guest/image/elf.ts";
import { ImageFile } from "../../src/guest/image/file.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { findVmlinux, loadVmlinux } from "../../src/guest/kernel/vmlinux.ts";
import { fromBigInt, toBigInt } from "../../src/guest/memory/pointer.ts";
import { EHDR, SHDR } from "../../src/uapi/elf.ts";
import { SyntheticKernel } from "./machine.ts";
import { kernelTypesBytes } from "./types.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-vmlinux-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

let serial = 0;
const fresh = (): string => join(folder, `tree-${serial++}`);

function write(path: string, content: string | Uint8Array = "x"): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

/** Names that other names end with are in the string table only once: "x_idr" contains "_idr". */
function vmlinuxBytes(
  symbols: Readonly<Record<string, bigint>>,
  buildId: string,
  stripped = false,
): Uint8Array {
  const note = Buffer.concat([
    Buffer.from(new Uint32Array([4, buildId.length / 2, 3]).buffer),
    Buffer.from("GNU\0"),
    Buffer.from(buildId, "hex"),
  ]);
  let strings = "\0";
  const symtab = Buffer.alloc(24 * (1 + Object.keys(symbols).length));
  Object.entries(symbols).forEach(([name, address], index) => {
    const at = 24 * (index + 1);
    symtab.writeUInt32LE(strings.length, at);
    symtab.writeUInt8(0x11, at + 4);
    symtab.writeUInt16LE(1, at + 6);
    symtab.writeBigUInt64LE(address, at + 8);
    strings += `${name}\0`;
  });
  const names = "\0.notes\0.BTF\0.symtab\0.strtab\0.shstrtab\0.bss\0";
  const contents: [string, number, Buffer, number][] = [
    [".notes", 7, note, 0],
    [".BTF", 1, Buffer.from(kernelTypesBytes()), 0],
    [".bss", 8, Buffer.alloc(0), 0],
    [".shstrtab", 3, Buffer.from(names), 0],
    ...(stripped
      ? []
      : ([
          [".symtab", 2, symtab, 6],
          [".strtab", 3, Buffer.from(strings, "latin1"), 0],
        ] as [string, number, Buffer, number][])),
  ];
  const parts: Buffer[] = [Buffer.alloc(64)];
  const headers = Buffer.alloc(64 * (contents.length + 1));
  let offset = 64;
  contents.forEach(([name, type, bytes, link], index) => {
    const at = 64 * (index + 1);
    headers.writeUInt32LE(names.indexOf(`\0${name}\0`) + 1, at);
    headers.writeUInt32LE(type, at + SHDR.fields.type.offset);
    headers.writeBigUInt64LE(BigInt(offset), at + SHDR.fields.offset.offset);
    headers.writeBigUInt64LE(BigInt(type === 8 ? 1 << 20 : bytes.length), at + SHDR.fields.size.offset);
    headers.writeUInt32LE(link, at + SHDR.fields.link.offset);
    parts.push(bytes);
    offset += bytes.length;
  });
  const head = parts[0]!;
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  head.writeUInt16LE(2, EHDR.fields.type.offset);
  head.writeUInt16LE(62, EHDR.fields.machine.offset);
  head.writeBigUInt64LE(BigInt(offset), EHDR.fields.shoff.offset);
  head.writeUInt16LE(64, EHDR.fields.shentsize.offset);
  head.writeUInt16LE(contents.length + 1, EHDR.fields.shnum.offset);
  head.writeUInt16LE(4, EHDR.fields.shstrndx.offset);
  return Buffer.concat([...parts, headers]);
}

describe("the vmlinux of a kernel image", () => {
  test("is found beside the image", () => {
    const root = fresh();
    const vmlinux = write(join(root, "vmlinux"));
    expect(findVmlinux(write(join(root, "bzImage")), root)).toBe(vmlinux);
  });

  test("is found three directories up from arch/<arch>/boot, after the image's own folder", () => {
    const root = fresh();
    const image = write(join(root, "arch/x86/boot/bzImage"));
    expect(findVmlinux(image, root)).toBeNull();
    const up = write(join(root, "vmlinux"));
    expect(findVmlinux(image, root)).toBe(up);
    const beside = write(join(root, "arch/x86/boot/vmlinux"));
    expect(findVmlinux(image, root)).toBe(beside);
  });

  test.each([
    "usr/lib/debug/boot/vmlinux-7.2.1-x",
    "boot/vmlinux-7.2.1-x",
    "lib/modules/7.2.1-x/build/vmlinux",
    "usr/lib/debug/lib/modules/7.2.1-x/vmlinux",
    "usr/lib/debug/vmlinux-7.2.1-x",
  ])("is found by the version after vmlinuz-: %s", (place) => {
    const root = fresh();
    const image = write(join(root, "boot/vmlinuz-7.2.1-x"));
    const vmlinux = write(join(root, place));
    expect(findVmlinux(image, root)).toBe(vmlinux);
    expect(findVmlinux(join(root, "boot/vmlinuz-7.2.1"), root)).toBeNull();
  });

  test.each([
    "lib/modules/7.2.1-x/build/vmlinux",
    "boot/vmlinux-7.2.1-x",
    "usr/lib/debug/lib/modules/7.2.1-x/vmlinux",
  ])("is found for lib/modules/V/vmlinuz: %s", (place) => {
    const root = fresh();
    const image = write(join(root, "lib/modules/7.2.1-x/vmlinuz"));
    const vmlinux = write(join(root, place));
    expect(findVmlinux(image, root)).toBe(vmlinux);
  });

  test("is looked for in debug packages, then in /boot, then in a build tree", () => {
    const root = fresh();
    const image = write(join(root, "boot/vmlinuz-1"));
    const build = write(join(root, "lib/modules/1/build/vmlinux"));
    expect(findVmlinux(image, root)).toBe(build);
    const boot = write(join(root, "boot/vmlinux-1"));
    expect(findVmlinux(image, root)).toBe(boot);
    const debug = write(join(root, "usr/lib/debug/boot/vmlinux-1"));
    expect(findVmlinux(image, root)).toBe(debug);
  });

  test("is not found beside a bare name, and is not a folder", () => {
    const root = fresh();
    mkdirSync(join(root, "boot/vmlinux-1"), { recursive: true });
    expect(findVmlinux("bzImage", root)).toBeNull();
    expect(findVmlinux("vmlinuz-1", root)).toBeNull();
  });
});

describe("the cache", () => {
  const bytes = vmlinuxBytes({ _stext: 0xffff_ffff_8100_0000n }, "aa");

  test("a hit is the same object, for every name of the file", () => {
    const path = write(join(fresh(), "vmlinux"), bytes);
    const link = join(fresh(), "link");
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(path, link);
    const first = loadVmlinux(path);
    expect(first).not.toBeNull();
    expect(loadVmlinux(path)).toBe(first);
    expect(loadVmlinux(link)).toBe(first);
    expect(first!.btf()).toBe(first!.btf()!);
  });

  test("a changed mtime replaces it", () => {
    const path = write(join(fresh(), "vmlinux"), bytes);
    const first = loadVmlinux(path);
    writeFileSync(path, vmlinuxBytes({ _stext: 1n }, "bb"));
    utimesSync(path, 1, 1);
    const second = loadVmlinux(path);
    expect([first!.buildId, second!.buildId]).toEqual(["aa", "bb"]);
    expect(loadVmlinux(path)).toBe(second);
  });

  test("errors are not cached: a damaged file is read again after it was replaced", () => {
    const path = write(join(fresh(), "vmlinux"), bytes.subarray(0, 100));
    utimesSync(path, 1, 1);
    expect(() => loadVmlinux(path)).toThrow(FormatError);
    expect(() => loadVmlinux(path)).toThrow(FormatError);
    writeFileSync(path, bytes);
    utimesSync(path, 1, 1);
    expect(loadVmlinux(path)!.buildId).toBe("aa");
  });

  test("a missing file is null, and so is a dangling link", () => {
    const link = join(fresh(), "dangling");
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync("nowhere", link);
    expect(loadVmlinux(link)).toBeNull();
    expect(loadVmlinux(join(folder, "none"))).toBeNull();
    const path = write(join(fresh(), "vmlinux"), bytes);
    expect(loadVmlinux(path)).not.toBeNull();
    rmSync(path);
    expect(loadVmlinux(path)).toBeNull();
  });
});

test("a symbol whose name ends with another's is a separate symbol, and the lowest address of a name is used", () => {
  const path = write(
    join(fresh(), "vmlinux"),
    vmlinuxBytes({ not_map_idr: 0xffff_ffff_8100_0000n, map_idr: 0xffff_ffff_8200_0000n }, "aa"),
  );
  const { symtab } = loadVmlinux(path)!;
  expect(symtab!.address("map_idr")).toEqual(fromBigInt(0xffff_ffff_8200_0000n));
  expect(symtab!.address("_idr")).toBeUndefined();
  expect(symtab!.address("")).toBeUndefined();
});

describe("a kernel with its vmlinux", () => {
  const save = (kernel: SyntheticKernel): string => write(join(fresh(), "mem"), kernel.machine.bytes);
  /** The kernel's symbols at their link addresses. */
  const linked = (
    kernel: SyntheticKernel,
    extra: Readonly<Record<string, bigint>> = {},
  ): Record<string, bigint> => {
    const moved = 0x2a40_0000n;
    const symbols = [...kernel.symbols].map(([name, { address }]) => [name, address - moved] as const);
    return { ...Object.fromEntries(symbols), ...extra };
  };

  test("symbols come from it, relocated by KASLR except for per-CPU offsets, and BTF comes from it", () => {
    const machine = new SyntheticKernel();
    const extra = { only_in_vmlinux: 0xffff_ffff_8123_4567n, cpu_number: 0x1c0n };
    const path = write(join(fresh(), "vmlinux"), vmlinuxBytes(linked(machine, extra), "0123abcd"));
    using kernel = openKernel({ memory: [{ path: save(machine), physical: 0 }], vmlinux: path });
    const at = (name: string): bigint => {
      const { hi, lo } = kernel.symbols.address(name)!;
      return toBigInt(hi, lo);
    };
    expect(at("map_idr")).toBe(machine.addressOf("map_idr"));
    expect(at("only_in_vmlinux")).toBe(0xffff_ffff_8123_4567n + 0x2a40_0000n);
    expect(at("cpu_number")).toBe(0x1c0n);
    expect(kernel.btf).toBe(loadVmlinux(path)!.btf()!);
    expect(kernel.warnings).toEqual([]);
    expect(kernel.explain().find(({ what }) => what === "symbols")!.text).toEndWith(`from ${path}`);
  });

  test("one of another build is an error with both ids", () => {
    const machine = new SyntheticKernel();
    const path = write(join(fresh(), "vmlinux"), vmlinuxBytes(linked(machine), "ffff0000"));
    const memory = [{ path: save(machine), physical: 0 }];
    expect(() => openKernel({ memory, vmlinux: path })).toThrow(
      /its build id is ffff0000, but that of the kernel in memory \(7\.2\.0-synthetic\) is 0123abcd/,
    );
  });

  test("a stripped one has its types; the symbols come from the memory", () => {
    const machine = new SyntheticKernel();
    const path = write(join(fresh(), "vmlinux"), vmlinuxBytes({}, "0123abcd", true));
    using kernel = openKernel({ memory: [{ path: save(machine), physical: 0 }], vmlinux: path });
    expect(kernel.symbols.source).toBe("kallsyms");
    expect(kernel.warnings[0]).toContain("has no symbols (it is stripped)");
    expect(kernel.btf.typeCount).toBeGreaterThan(5);
  });

  test("a missing file and a file that is not ELF are errors", () => {
    const memory = [{ path: save(new SyntheticKernel()), physical: 0 }];
    expect(() => openKernel({ memory, vmlinux: join(folder, "none") })).toThrow("there is no such file");
    const path = write(join(fresh(), "vmlinuz"), "MZ compressed");
    expect(() => openKernel({ memory, vmlinux: path })).toThrow("it is not an ELF file");
  });

  test("one that is cut anywhere is a KtstrError", () => {
    const machine = new SyntheticKernel();
    const whole = vmlinuxBytes(linked(machine), "0123abcd");
    for (let length = whole.length - 1; length > 0; length -= 41) {
      const path = write(join(fresh(), "vmlinux"), whole.subarray(0, length));
      expect(() => loadVmlinux(path)).toThrow(KtstrError);
    }
  });
});

test("a section above the limit is an error with the limit, and one past the end of the file is another", () => {
  const bytes = Buffer.alloc(3 * 64);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes.writeBigUInt64LE(64n, EHDR.fields.shoff.offset);
  bytes.writeUInt16LE(SHDR.size, EHDR.fields.shentsize.offset);
  bytes.writeUInt16LE(2, EHDR.fields.shnum.offset);
  bytes.writeUInt32LE(1, 128 + SHDR.fields.type.offset);
  bytes.writeBigUInt64LE(2n ** 30n, 128 + SHDR.fields.size.offset);
  const path = write(join(fresh(), "vmlinux"), bytes);
  const read = (): Uint8Array => {
    using file = new ImageFile(path);
    const elf = new ElfFile(file, "vmlinux");
    return elf.contents(elf.sections[1]!);
  };
  expect(read).toThrow("section  of 1073741824 bytes extends past the end of the file");
  truncateSync(path, 2 ** 31);
  expect(read).toThrow("section  has 1073741824 bytes, more than the limit of 536870912");
});
