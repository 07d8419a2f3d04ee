/** Finding a kernel in synthetic memory: VMCOREINFO, layout, symbols, CPUs. */
import { describe, expect, test } from "bun:test";
import { truncateSync, writeFileSync } from "node:fs";
import { KtstrError } from "../../src/errors.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { Kallsyms } from "../../src/guest/kernel/kallsyms.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { perCpuAddress } from "../../src/guest/kernel/percpu.ts";
import { searchSymbolTables } from "../../src/guest/kernel/without-vmcoreinfo.ts";
import { fromBigInt, toBigInt } from "../../src/guest/memory/pointer.ts";
import { type KallsymsForm, type KernelOptions, SyntheticKernel } from "./machine.ts";
import { open, pointerOf, savedMemories } from "./support/saved-memory.ts";

const { newPath, save, saveAt } = savedMemories();

const FORMS: readonly KernelOptions[] = [
  { arch: "x86_64", form: "self-relative" },
  { arch: "x86_64", form: "absolute-percpu", release: "6.1.0-synthetic" },
  { arch: "aarch64", form: "self-relative" },
  { arch: "aarch64", form: "base-relative", release: "6.12.0-synthetic" },
  { arch: "x86_64", form: "self-relative", ordered: false },
  { arch: "x86_64", form: "absolute-percpu", release: "6.0.0-synthetic", ordered: false },
];

test.each(FORMS)("every symbol of %p is found by name and listed with its type", (options) => {
  const machine = new SyntheticKernel(options);
  using kernel = open(save(machine), 0);
  for (const [name, { address }] of machine.symbols) {
    expect([name, pointerOf(kernel, name)]).toEqual([name, address]);
    expect(pointerOf(kernel, `${name}_`)).toBeUndefined();
  }
  for (const name of ["", "!", "~"]) expect(kernel.symbols.address(name)).toBeUndefined();
  expect(kernel.symbols.count).toBe(machine.symbols.size);
  if (!(kernel.symbols instanceof Kallsyms)) throw new Error("symbols come from elsewhere");
  const listed = [...kernel.symbols.all()].map(({ name, type, address }) => ({ name, type, address }));
  for (const { name, type, address } of listed)
    expect(machine.symbols.get(name)).toEqual({ type, address: toBigInt(address.hi, address.lo) });
  expect(kernel.info.machine).toBe(options.arch!);
  expect(kernel.info.release).toBe(machine.release);
});

describe("the kernel's list of names in order", () => {
  /** Overwrites the entry of a name with another symbol's number. */
  const damaged = (form: KallsymsForm, name: string): SyntheticKernel => {
    const machine = new SyntheticKernel({ form });
    const names = [...machine.symbols.keys()].sort((a, b) => (a < b ? -1 : 1));
    machine.machine.write(machine.orderPhysical + 3 * names.indexOf(name), new Uint8Array([0, 0, 9]));
    return machine;
  };

  test.each(["self-relative", "base-relative", "absolute-percpu"] as const)(
    "look-ups bisect %s tables with it",
    (form) => {
      const machine = damaged(form, "map_idr");
      using kernel = open(save(machine), 0);
      expect(pointerOf(kernel, "map_idr")).toBeUndefined();
      expect(pointerOf(kernel, "prog_idr")).toBe(machine.addressOf("prog_idr"));
    },
  );

  test("one that does not lead to _stext is not used", () => {
    const machine = damaged("self-relative", "_stext");
    using kernel = open(save(machine), 0);
    for (const [name, { address }] of machine.symbols)
      expect([name, pointerOf(kernel, name)]).toEqual([name, address]);
  });
});

describe("stale copies of VMCOREINFO", () => {
  test("of an earlier boot, with another KASLR offset, are skipped", () => {
    const machine = new SyntheticKernel();
    machine.writeText(0, machine.infoText(0x60_0000n));
    using kernel = open(save(machine), 0);
    expect(kernel.explain()[1]).toEqual({
      what: "VMCOREINFO",
      text: `at physical 0x${machine.infoPhysical.toString(16)}`,
    });
  });

  test("of another kernel, whose addresses happen to translate, are rejected by the release", () => {
    const machine = new SyntheticKernel();
    machine.writeText(0, machine.infoText().replace("7.2.0", "7.1.0"));
    using kernel = open(save(machine), 0);
    expect(kernel.info.release).toBe("7.2.0-synthetic");
  });

  test("memory without VMCOREINFO and without a symbol table is an error that names both, with a hint", () => {
    const path = newPath();
    writeFileSync(path, new Uint8Array(1 << 20).fill(7));
    using image = new MemoryImage([{ path }]);
    expect(searchSymbolTables(image, () => true)).toEqual({ tables: 0, refusals: [] });
    let error: unknown;
    try {
      open(path);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({
      message:
        "find the kernel in raw memory of 1048576 bytes: no page starts with VMCOREINFO's text; it contains no symbol table of a kernel (kallsyms)",
      hint: "It must be the whole memory of Linux 5.10 or newer with CONFIG_KALLSYMS, and neither encrypted nor compressed.",
    });
  });

  test("with only stale copies the error says why each was rejected", () => {
    const machine = new SyntheticKernel();
    const text = machine.infoText();
    machine.machine.bytes.fill(0, machine.infoPhysical, machine.infoPhysical + 4096);
    machine.writeText(0, text.replace("OSRELEASE=7.2.0", "OSRELEASE=7.1.0"));
    machine.writeText(
      0x1000 * 4,
      text.replace(/SYMBOL\(init_top_pgt\)=[0-9a-f]+/, "SYMBOL(init_top_pgt)=ffffffff80000000"),
    );
    expect(() => open(save(machine), 0)).toThrow(
      /VMCOREINFO was found 2 times, but no copy matches this memory: .*holds the release "7\.2\.0-synthetic"; .*init_top_pgt has no physical address/,
    );
  });

  test("the ELF note is used if the text itself is overwritten", () => {
    const machine = new SyntheticKernel();
    const text = new TextEncoder().encode(machine.infoText());
    machine.machine.bytes.fill(0, machine.infoPhysical, machine.infoPhysical + 4096);
    const note = new Uint8Array(24 + text.length);
    note.set([11, 0, 0, 0]);
    note.set(new TextEncoder().encode("VMCOREINFO\0"), 12);
    note.set(text, 24);
    machine.machine.write(machine.infoPhysical, note);
    using kernel = open(save(machine), 0);
    expect(kernel.info.release).toBe(machine.release);
  });
});

describe("the layout of a single file's memory", () => {
  const GIB = 2 ** 30;

  test("arm64's RAM begins at 1 GiB", () => {
    const machine = new SyntheticKernel({ arch: "aarch64", physicalBase: GIB });
    using kernel = open(save(machine));
    expect(kernel.memory.physical.windows[0]!.physical).toBe(GIB);
    expect(kernel.warnings).toEqual([
      "The file does not contain the addresses of its memory; according to the kernel's own list of RAM it is 0x40000000 to 0x407fffff.",
    ]);
  });

  test.each([2 * GIB, 3 * GIB, 3.5 * GIB])("with a kernel above the hole, %d bytes are below it", (low) => {
    const size = 8 << 20;
    const ram = [[0, low] as const, [4 * GIB, 4 * GIB + size] as const];
    const machine = new SyntheticKernel({ physicalBase: 4 * GIB, ram });
    using kernel = open(saveAt(machine, low, low + size));
    expect(kernel.explain()[0]!.text).toEndWith(
      `0x0 to 0x${(low - 1).toString(16)} and 0x100000000 to 0x1007fffff`,
    );
  });

  test("with a kernel below the hole, the layout follows from the RAM above it, for any size of the hole", () => {
    const low = 1.25 * GIB;
    const high = 64 << 20;
    // Firmware reserves the last MiB below the hole.
    const machine = new SyntheticKernel({
      ram: [
        [0, low - 2 ** 20],
        [4 * GIB, 4 * GIB + high],
      ],
    });
    using kernel = open(saveAt(machine, 0, low + high));
    expect(kernel.explain()[0]!.text).toEndWith("0x0 to 0x4fffffff and 0x100000000 to 0x103ffffff");
  });

  test("if the list of RAM fits no layout, the first layout with a kernel is used, with a warning", () => {
    const machine = new SyntheticKernel({ ram: [[0x7000_0000_0000, 0x7000_0000_1000]] });
    using kernel = open(save(machine));
    expect(kernel.warnings[0]).toContain("The list could not be read completely: addresses may be wrong.");
    expect(kernel.info.release).toBe(machine.release);
  });

  test("the walk of a circular resource list ends", () => {
    const machine = new SyntheticKernel();
    const child = machine.physicalOf("iomem_resource") + 32;
    const node = Number(machine.machine.readU64(child) - machine.machine.directBase);
    machine.machine.writeU64(node + 24, machine.machine.direct(node));
    using kernel = open(save(machine));
    expect(kernel.info.release).toBe(machine.release);
  });
});

test("a direct map that the page tables contradict is not used, and reads still work", () => {
  const machine = new SyntheticKernel();
  machine.machine.writeU64(machine.physicalOf("page_offset_base"), 0xff77_0000_0000_0000n);
  using kernel = open(save(machine), 0);
  expect(kernel.warnings).toHaveLength(1);
  expect(kernel.warnings[0]).toContain("all addresses are translated by the page tables");
  const { hi, lo } = fromBigInt(machine.machine.direct(machine.infoPhysical));
  expect(Buffer.from(kernel.memory.cstring(hi, lo, 0, 10, "text")).toString()).toBe("OSRELEASE=");
});

describe("CPUs", () => {
  test("an offset of 0 for a CPU above 0 is an unused slot; CPU 0's may be 0", () => {
    const machine = new SyntheticKernel({ perCpuOffsets: [0n, 0x8000n, 0n, 0xffff_ffff_ffff_0000n] });
    using kernel = open(save(machine), 0);
    expect(kernel.cpus.possible).toEqual([0, 1, 2, 3]);
    expect(kernel.cpus.missing).toEqual([2]);
    expect(kernel.cpus.areas.map(({ cpu }) => cpu)).toEqual([0, 1, 3]);
    const variable = fromBigInt(0xffff_8880_ffff_8000n);
    const addresses = kernel.cpus.areas.map((area) => {
      const { hi, lo } = perCpuAddress(variable, area);
      return toBigInt(hi, lo);
    });
    expect(addresses).toEqual([0xffff_8880_ffff_8000n, 0xffff_8881_0000_0000n, 0xffff_8880_fffe_8000n]);
  });

  test("a per-CPU address is added with carry", () => {
    const machine = new SyntheticKernel();
    using kernel = open(save(machine), 0);
    const at = machine.machine.direct(machine.infoPhysical);
    const sum = (a: bigint, offset: number): number => {
      const one = fromBigInt(a);
      const other = fromBigInt(at - a - BigInt(offset));
      return kernel.memory.locateSum(one.hi, one.lo, other.hi, other.lo, offset, 4);
    };
    for (const a of [0x1c0n, 0xffff_ffffn, 0x8000_0000n, 0xffff_ffff_ffff_ffffn, at + 1n]) {
      const found = sum(a, 0x10);
      expect(found).toBeGreaterThanOrEqual(0);
      expect(kernel.memory.view.getUint32(found, true)).toBe(0x4552_534f);
    }
  });
});

describe("inconsistent tables", () => {
  const broken = (change: (machine: SyntheticKernel) => void): (() => unknown) => {
    const machine = new SyntheticKernel();
    change(machine);
    const path = save(machine);
    return () => open(path, 0)[Symbol.dispose]();
  };

  test.each<[string, (machine: SyntheticKernel) => void]>([
    ["0 symbols", (m) => m.machine.writeU32(m.physicalOf("kallsyms_num_syms"), 0)],
    ["4294967295 symbols", (m) => m.machine.writeU32(m.physicalOf("kallsyms_num_syms"), 0xffff_ffff)],
    ["is not terminated", (m) => m.machine.writeU32(m.physicalOf("kallsyms_num_syms"), 100_000)],
    ["is not terminated", (m) => m.machine.writeU32(m.physicalOf("kallsyms_names"), 0)],
    ["token 0 is not terminated", (m) => m.machine.writeU32(m.physicalOf("kallsyms_token_index"), 0xffff)],
    [
      "_stext is not among the symbols",
      (m) => {
        const index = m.physicalOf("kallsyms_token_index");
        m.machine.view.setUint16(index + 2 * 95, m.machine.view.getUint16(index + 2 * 65, true), true);
      },
    ],
    [
      "the address of _stext differs",
      (m) => {
        for (let at = 0; at < 20; at++) m.machine.writeU32(m.physicalOf("kallsyms_offsets") + 4 * at, 12345);
      },
    ],
  ])("kallsyms: %s", (problem, change) => {
    expect(broken(change)).toThrow(KtstrError);
    expect(broken(change)).toThrow(problem);
  });

  test("a kernel before 6.0 has no addresses of its symbols; an image without them is an error that says so", () => {
    const run = broken((m) => {
      const text = m.infoText().replace(/^SYMBOL\(kallsyms_.*\n/gm, "");
      m.machine.bytes.fill(0, m.infoPhysical, m.infoPhysical + 4096);
      m.writeText(m.infoPhysical, text);
    });
    expect(run).toThrow("VMCOREINFO does not have their address, and none was found in the kernel's image");
  });
});

test("a file that is cut anywhere gives a KtstrError or a kernel", () => {
  const machine = new SyntheticKernel();
  const path = save(machine);
  const size = machine.machine.bytes.length;
  for (let length = size - 4096; length > 0; length -= 4096 * 61 + 97) {
    truncateSync(path, length);
    try {
      using kernel = open(path);
      expect(kernel.info.release).toBe(machine.release);
    } catch (error) {
      expect(error).toBeInstanceOf(KtstrError);
    }
  }
});

test("a given address of VMCOREINFO, or of its note, is used, and a wrong one is an error", () => {
  const machine = new SyntheticKernel();
  const path = save(machine);
  using kernel = openKernel({ memory: [{ path }], vmcoreinfo: machine.infoPhysical });
  expect(kernel.info.release).toBe(machine.release);
  expect(() => openKernel({ memory: [{ path, physical: 0 }], vmcoreinfo: 0x5000 })).toThrow(
    "there is no VMCOREINFO at 0x5000",
  );
});
