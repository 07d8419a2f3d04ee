/** Machines that the lab does not boot: memory encryption, memory far apart, two kernels, a kernel without symbols of variables. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { type GuestKernel, openKernel } from "../../src/guest/kernel/kernel.ts";
import { requireSymbol } from "../../src/guest/kernel/symbols.ts";
import { fromBigInt } from "../../src/guest/memory/pointer.ts";
import { SyntheticKernel } from "./machine.ts";
import { open, pointerOf, savedMemories } from "./support/saved-memory.ts";

const { newPath, save, saveAt } = savedMemories();

test("a kernel without CONFIG_KALLSYMS_ALL has no symbols of variables, and the error says so", () => {
  using kernel = open(save(new SyntheticKernel({ functionsOnly: true })), 0);
  expect(pointerOf(kernel, "_stext")).not.toBeUndefined();
  let error: unknown;
  try {
    requireSymbol(kernel.symbols, "map_idr");
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({
    message: "find symbol map_idr: kallsyms has functions only (2 symbols)",
    hint: "The kernel was built without CONFIG_KALLSYMS_ALL: give its vmlinux with --vmlinux.",
  });
});

test("a kernel without CONFIG_RANDOMIZE_BASE is at its link address, and its direct map at the default address", () => {
  const machine = new SyntheticKernel({ isFixed: true });
  using kernel = open(save(machine), 0);
  expect([kernel.info.release, kernel.warnings]).toEqual([machine.release, []]);
  expect(pointerOf(kernel, "_stext")).toBe(0xffff_ffff_8100_0000n);
  const found = new Map(kernel.explain().map(({ what, text }) => [what, text]));
  expect(found.get("KASLR offset")).toBe("0x0");
  expect(found.get("direct map")).toBe("0xff11000000000000 is physical 0x0");
});

describe("AMD's memory encryption", () => {
  test.each([47n, 51n])("bit %p of page-table entries is not an address bit if VMCOREINFO says so", (bit) => {
    const encryptionMask = 1n << bit;
    const machine = new SyntheticKernel({ encryptionMask });
    using kernel = open(save(machine), 0);
    expect(kernel.info.release).toBe(machine.release);
    expect(kernel.warnings).toEqual([]);
    expect(kernel.explain().find(({ what }) => what === "page tables")?.text).toContain(
      "AMD memory encryption",
    );
    const at = machine.addressOf("map_idr");
    const { hi, lo } = fromBigInt(at);
    expect(kernel.memory.physicalOf(hi, lo, "map_idr")).toBe(machine.physicalOf("map_idr"));
  });

  test("without that line the same tables point out of the memory, and the bit is not masked", () => {
    const machine = new SyntheticKernel({ encryptionMask: 1n << 47n });
    machine.writeText(
      machine.infoPhysical,
      machine.infoText().replace(/NUMBER\(sme_mask\)=\d+/, "NUMBER(sme_mask)=0"),
    );
    expect(() => open(save(machine), 0)).toThrow(/the page tables at 0x[0-9a-f]+ do not map _stext/);
  });
});

describe("memory of 15 TiB, most of it holes", () => {
  const TIB = 2 ** 40;
  const base = 15 * TIB - (16 << 20);
  const ram = [
    [0, 1 << 20],
    [base, base + (8 << 20)],
  ] as const;
  const expected = (machine: SyntheticKernel): unknown[] => [machine.release, machine.addressOf("map_idr")];
  const read = (kernel: GuestKernel): unknown[] => [kernel.info.release, pointerOf(kernel, "map_idr")];

  test("a raw file: holes are neither searched nor read", () => {
    const machine = new SyntheticKernel({ physicalBase: base, ram });
    using kernel = open(saveAt(machine, base, 15 * TIB));
    expect(read(kernel)).toEqual(expected(machine));
    const { hi, lo } = fromBigInt(machine.machine.direct(base + 4096));
    expect(kernel.memory.physicalOf(hi, lo, "the direct map")).toBe(base + 4096);
  });

  test("two files: the lowest memory and the highest", () => {
    const machine = new SyntheticKernel({ physicalBase: base, ram });
    const low = newPath();
    writeFileSync(low, new Uint8Array(1 << 20));
    using kernel = openKernel({
      memory: [
        { path: low, physical: 0 },
        { path: save(machine), physical: base },
      ],
    });
    expect(read(kernel)).toEqual(expected(machine));
    expect(kernel.warnings).toEqual([]);
  });
});

describe("two kernels in one memory", () => {
  /** The first kernel is in the lower half of the memory, the second in the upper half. */
  const both = (
    variables: Readonly<Record<string, number>> = {},
  ): { path: string; first: SyntheticKernel; second: SyntheticKernel } => {
    const bytes = new Uint8Array(16 << 20);
    const half = bytes.length / 2;
    const ram = [[0, bytes.length]] as const;
    const first = new SyntheticKernel({ bytes: bytes.subarray(0, half), ram, variables });
    const release = "7.3.0-crash";
    const second = new SyntheticKernel({ bytes: bytes.subarray(half), physicalBase: half, ram, release });
    const path = save(first);
    writeFileSync(path, bytes);
    return { path, first, second };
  };

  const warningOf = (first: SyntheticKernel, second: SyntheticKernel): string => {
    const at = `0x${second.infoPhysical.toString(16)}`;
    return `This memory contains two kernels. 7.2.0-synthetic (VMCOREINFO at 0x${first.infoPhysical.toString(16)}) is used; the other one is 7.3.0-crash (VMCOREINFO at ${at}). One of them may be a crash kernel, or left by an earlier boot. --vmcoreinfo ${at} uses the other one.`;
  };

  test("the first is used, and with --explain a warning says how to select the other", () => {
    const { path, first, second } = both();
    using quick = openKernel({ memory: [{ path, physical: 0 }] });
    expect([quick.info.release, quick.warnings]).toEqual([first.release, []]);
    using kernel = openKernel({ memory: [{ path, physical: 0 }], others: true });
    expect(kernel.info.release).toBe(first.release);
    expect(kernel.warnings).toEqual([warningOf(first, second)]);
    using other = openKernel({
      memory: [{ path, physical: 0 }],
      vmcoreinfo: second.infoPhysical,
      others: true,
    });
    expect([other.info.release, other.warnings]).toEqual([second.release, []]);
  });

  test("the warning is printed without --explain if the kernel has memory reserved for a crash kernel, or is one", () => {
    for (const [name, at, value] of [
      ["crashk_res", 8, 0x27ff_ffffn],
      ["elfcorehdr_addr", 0, 0x2000_0000n],
    ] as const) {
      const { path, first, second } = both({ [name]: 64 });
      first.machine.writeU64(first.physicalOf(name) + at, value);
      writeFileSync(path, new Uint8Array(first.machine.bytes.buffer));
      using kernel = openKernel({ memory: [{ path, physical: 0 }] });
      expect(kernel.warnings).toEqual([warningOf(first, second)]);
    }
  });

  test("a second copy of the kernel's own text, as in its note, is not a second kernel", () => {
    const machine = new SyntheticKernel();
    machine.writeText(0, machine.infoText());
    using kernel = openKernel({ memory: [{ path: save(machine), physical: 0 }], others: true });
    expect(kernel.warnings).toEqual([]);
  });
});
