/** Damaged memory: every read ends soon, with a result or a KtstrError. A seed that failed stays here as a test. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { constants, copyFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KtstrError } from "../../src/errors.ts";
import type { Piece } from "../../src/guest/image/format.ts";
import { idrEntries } from "../../src/guest/kernel/idr.ts";
import { type GuestKernel, openKernel } from "../../src/guest/kernel/kernel.ts";
import { requireSymbol } from "../../src/guest/kernel/symbols.ts";
import { WalkLog } from "../../src/guest/kernel/walklog.ts";
import { labImages, testEachMachine } from "./images.ts";
import { SyntheticKernel } from "./machine.ts";
import { Mutator, type Place } from "./mutate.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-fuzz-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const IDRS = ["map_idr", "prog_idr", "link_idr", "btf_idr"] as const;
/** A symbol, and the number of bytes from it that finding a kernel reads. */
const TABLES: readonly (readonly [string, number])[] = [
  ...IDRS.map((name) => [name, 24] as const),
  ["init_uts_ns", 400],
  ["kallsyms_num_syms", 4],
  ["kallsyms_names", 4096],
  ["kallsyms_token_table", 900],
  ["kallsyms_token_index", 512],
  ["kallsyms_offsets", 4096],
  ["__start_BTF", 4096],
  ["__per_cpu_offset", 64],
  ["__cpu_possible_mask", 16],
  ["page_offset_base", 8],
  ["iomem_resource", 64],
];

/** Reads everything that this layer reads of a machine. */
function readAll(path: string): void {
  using kernel = openKernel({ memory: [{ path }] });
  for (const name of IDRS) {
    const at = requireSymbol(kernel.symbols, name);
    for (const { address } of idrEntries(kernel.memory, kernel.btf, at, name, new WalkLog()))
      kernel.memory.locate(address.hi, address.lo, 0, 512);
  }
  expect(kernel.info.possibleCpus).toBeLessThanOrEqual(8192);
  kernel.explain();
  kernel.check();
}

/** Returns the places of a kernel's tables, of its IDRs' nodes and objects, and of its upper page tables in a raw file. */
function placesOf(kernel: GuestKernel, layout: readonly Piece[]): Place[] {
  const places: Place[] = [];
  const add = (name: string, physical: number, length: number): void => {
    const piece = layout.find((each) => physical >= each.physical && physical < each.physical + each.length);
    if (piece !== undefined)
      places.push({ name, offset: piece.fileOffset + physical - piece.physical, length });
  };
  const addVirtual = (name: string, hi: number, lo: number, length: number): void => {
    if (kernel.memory.locate(hi, lo, 0, 1) >= 0) add(name, kernel.memory.physicalOf(hi, lo, name), length);
  };
  for (const [name, length] of TABLES) {
    const at = kernel.symbols.address(name);
    if (at !== undefined) addVirtual(name, at.hi, at.lo, length);
  }
  for (const name of IDRS) {
    const at = requireSymbol(kernel.symbols, name);
    const head = kernel.memory.pointer(at.hi, at.lo, 8, name);
    addVirtual(`${name} node`, head.hi, head.lo & ~3, 576);
    for (const { id, address } of idrEntries(kernel.memory, kernel.btf, at, name, new WalkLog()))
      addVirtual(`${name} ${id}`, address.hi, address.lo, 512);
  }
  const { root } = kernel.memory.tables;
  add("top page table", root, 4096);
  const text = kernel.explain().find(({ what }) => what === "VMCOREINFO")!.text;
  add("VMCOREINFO", Number(/0x[0-9a-f]+/.exec(text)![0]), 3300);
  return places;
}

function damageAndRead(
  path: string,
  layout: readonly Piece[],
  rounds: number,
  seed: number,
): ReadonlyMap<string, number> {
  const places: Place[] = [];
  {
    using kernel = openKernel({ memory: [{ path }] });
    places.push(...placesOf(kernel, layout));
  }
  using mutator = new Mutator(path, places, seed);
  const outcomes = mutator.rounds(rounds, () => {
    readAll(path);
    return "result";
  });
  // After all damage is undone, the memory is intact.
  readAll(path);
  return outcomes;
}

test.each([1, 2, 3])(
  "reads of a damaged synthetic kernel end with a result or a KtstrError: 400 rounds, seed %d",
  (seed) => {
    const machine = new SyntheticKernel();
    const path = join(folder, `synthetic-${seed}`);
    writeFileSync(path, machine.machine.bytes);
    const length = machine.machine.bytes.length;
    const outcomes = damageAndRead(path, [{ fileOffset: 0, physical: 0, length }], 400, seed);
    expect(outcomes.get("result")).toBeGreaterThan(0);
    expect(outcomes.get("error")).toBeGreaterThan(0);
  },
);

const images = (await labImages()).filter(({ pieces }) => pieces.length === 1);

testEachMachine(
  images.slice(0, 3),
  "reads of %s, damaged or cut, end with a result or a KtstrError: 200 rounds",
  (image) => {
    const path = join(folder, image.name);
    copyFileSync(image.memory, path, constants.COPYFILE_FICLONE);
    const layout = image.pieces.map(({ gpa, fileOffset, size }) => ({
      physical: gpa,
      fileOffset,
      length: size,
    }));
    const outcomes = damageAndRead(path, layout, 200, 20_261_121);
    expect(outcomes.get("result")).toBeGreaterThan(0);
    for (let length = image.pieces[0]!.size; length > 4096; length = Math.floor(length * 0.6) - 1) {
      truncateSync(path, length);
      try {
        readAll(path);
      } catch (error) {
        if (!(error instanceof KtstrError)) throw new Error(`a cut at ${length}`, { cause: error });
      }
    }
  },
  300_000,
);
