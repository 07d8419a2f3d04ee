/** QEMU's other machines, and a kernel that KASLR does not move: ktstr's answers are those of bpftool in the guest. */
import { describe, expect, test } from "bun:test";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { labImage } from "../guest/images.ts";
import { Comparison } from "../guest/support/frozen.ts";
import { labSkipReason } from "./availability.ts";
import { type BootOptions, bootGuest, writeMeta } from "./frozen.ts";

const cli = new URL("../../src/cli.ts", import.meta.url).pathname;
const bootMs = 600_000;

async function ids(kind: string, memory: string): Promise<number[]> {
  const child = Bun.spawn([process.execPath, cli, "-j", kind, "show", "--memory", memory], {
    stderr: "ignore",
  });
  return ((await child.stdout.json()) as { id: number }[]).map(({ id }) => id);
}

const why = await labSkipReason();
const reason = why !== "" ? `: ${why}` : process.env["KTSTR_LAB"] === "all" ? "" : ": under KTSTR_LAB=all";

const machines: readonly (readonly [string, Pick<BootOptions, "machine" | "append">])[] = [
  ["-machine pc", { machine: "pc" }],
  ["-machine microvm", { machine: "microvm" }],
  ["nokaslr", { append: "nokaslr" }],
];

describe.skipIf(reason !== "")(`machines that no row of the matrix has${reason}`, () => {
  test.each(machines)(
    "%s: maps with contents, programs and links are those of bpftool and the loader",
    async (name, options) => {
      await using guest = await bootGuest({ kernel: "6.1", zoo: true, ...options });
      await writeMeta(guest);
      const image = labImage(name, guest.dir);
      using kernel = openKernel({ memory: [{ path: guest.memoryPath }] });
      expect(kernel.release).toBe(image.answer("release")!.trim());
      const { differences, tallies } = new Comparison(image, kernel);
      expect(differences).toEqual([]);
      const elements = [...tallies.values()].reduce((sum, each) => sum + each.elements, 0);
      expect(elements).toBeGreaterThan(1000);
      for (const kind of ["prog", "link"]) {
        const theirs = JSON.parse(image.answer(`${kind}-show.json`)!) as { id: number }[];
        expect([kind, await ids(kind, guest.memoryPath)]).toEqual([kind, theirs.map(({ id }) => id)]);
      }
      const offset = kernel.explain().find(({ what }) => what === "KASLR offset")!.text;
      // Debian's kernels are linked at 0xffffffff81000000 (CONFIG_PHYSICAL_START).
      const moved =
        BigInt(`0x${/^([0-9a-f]{16}) T _stext$/m.exec(image.answer("kallsyms")!)![1]}`) -
        0xffff_ffff_8100_0000n;
      expect(offset).toBe(`0x${moved.toString(16)}`);
      if (options.append === "nokaslr") expect(moved).toBe(0n);
      console.log(`${name}: ${tallies.size} kinds of maps, ${elements} elements, KASLR offset ${offset}`);
    },
    bootMs,
  );
});
