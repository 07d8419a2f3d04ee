/** Dumps of one frozen machine in the formats of the tools that write them: every answer is equal to the raw memory's. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { DUMP_DH_COMPRESSED_SNAPPY } from "../../src/uapi/kdump.ts";
import {
  avmlBlocks,
  avmlPlainBlocks,
  type Range,
  snappy,
  VMWARE_END,
  vboxCoreHead,
  vmwareState,
} from "../guest/dump-writers.ts";
import { writeKdump } from "../guest/kdump-writer.ts";
import { labSkipReason } from "./availability.ts";
import type { FrozenImage } from "./frozen.ts";
import { makedumpfile, writeCore } from "./makedumpfile.ts";
import { frozenRow } from "./matrix.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 600_000;
const dumpMs = 120_000;

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

/** Runs makedumpfile with a file system of `sizeBytes` for its output, which is then copied to `output`. */
async function dumpToFullDisk(sizeBytes: number, core: string, output: string): Promise<void> {
  const tool = JSON.stringify(join(import.meta.dir, "makedumpfile.ts"));
  const program = `await (await import(${tool})).makedumpfile("-c", "-d", "31", ...process.argv.slice(-2));`;
  const script = `mount -t tmpfs -o size="$1" none "$2" || exit 3
"$3" -e "$4" -- "$5" "$2/kdump" 2> /dev/null && exit 4
cp --sparse=always "$2/kdump" "$6"`;
  const mountPoint = mkdtempSync(join(tmpdir(), "ktstr-full-"));
  const words = [script, "sh", `${sizeBytes}`, mountPoint, process.execPath, program, core, output];
  const child = Bun.spawn(["unshare", "--mount", "--map-root-user", "sh", "-c", ...words]);
  const status = await child.exited;
  rmSync(mountPoint, { recursive: true });
  expect(status).toBe(0);
}

async function inspect(...files: readonly string[]): Promise<string> {
  const { out, err, status } = await ktstr("-j", "inspect", ...files.flatMap((file) => ["--memory", file]));
  expect([status, err]).toEqual([0, ""]);
  return out;
}

// A kernel that makedumpfile supports; for newer ones it drops pages that are in use.
describe.skipIf((await labSkipReason()) !== "")("dumps of a 6.1 guest", () => {
  let folder = "";
  let image: FrozenImage;
  let raw = "";
  const path = (name: string): string => join(folder, name);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-dumps-"));
    image = await frozenRow("6.1");
    raw = await inspect(`${image.memoryPath}@0`);
    using kernel = openKernel({ memory: [{ path: image.memoryPath }] });
    await writeCore(image.memoryPath, kernel.found.info.text, path("core"));
  }, bootMs);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("the raw memory has a non-trivial answer", () => {
    expect(raw.length).toBeGreaterThan(100_000);
  });

  for (const [compression, option] of [
    ["zlib", "-c"],
    ["LZO", "-l"],
    ["zstd", "-z"],
  ] as const)
    for (const level of [0, 31])
      test(
        `makedumpfile with ${compression}, dump level ${level}`,
        async () => {
          await makedumpfile(option, "-d", `${level}`, path("core"), path("kdump"));
          expect(await inspect(path("kdump"))).toBe(raw);
          rmSync(path("kdump"));
        },
        dumpMs,
      );

  test(
    "a capture of a compressed dump gives the same answers as a capture of the memory",
    async () => {
      await makedumpfile("-c", "-d", "31", path("core"), path("kdump"));
      for (const [source, output] of [
        [`${image.memoryPath}@0`, "raw.vmcore"],
        [path("kdump"), "kdump.vmcore"],
      ] as const) {
        const words = ["capture", "--memory", source, "-o", path(output)];
        const child = Bun.spawn([process.execPath, cli, ...words], { stdout: "ignore", stderr: "pipe" });
        expect([await child.stderr.text(), await child.exited]).toEqual(["", 0]);
      }
      const captured = await inspect(path("raw.vmcore"));
      expect(captured.length).toBeGreaterThan(100_000);
      expect(await inspect(path("kdump.vmcore"))).toBe(captured);
      rmSync(path("kdump"));
    },
    dumpMs,
  );

  test(
    "makedumpfile -F, flattened: compressed, and an ELF core without zero pages",
    async () => {
      await Bun.write(path("flat"), await makedumpfile("-F", "-c", "-d", "31", path("core")));
      expect(await inspect(path("flat"))).toBe(raw);
      await Bun.write(path("flat"), await makedumpfile("-F", "-l", "-d", "0", path("core")));
      expect(await inspect(path("flat"))).toBe(raw);
      await Bun.write(path("flat"), await makedumpfile("-F", "-E", "-d", "30", path("core")));
      expect(await inspect(path("flat"))).toBe(raw);
      rmSync(path("flat"));
    },
    dumpMs,
  );

  test(
    "makedumpfile --split: the parts together, in any order",
    async () => {
      await makedumpfile("--split", "-c", "-d", "0", path("core"), path("part1"), path("part2"));
      expect(await inspect(path("part2"), path("part1"))).toBe(raw);
      rmSync(path("part1"));
      rmSync(path("part2"));
      await makedumpfile(
        "--split",
        "-l",
        "-d",
        "31",
        path("core"),
        path("part1"),
        path("part2"),
        path("part3"),
      );
      expect(await inspect(path("part1"), path("part2"), path("part3"))).toBe(raw);
    },
    dumpMs,
  );

  /**
   * Checks what an incomplete dump shows against the whole memory. Where the kernel's own pages are missing, the dump cannot
   * be opened, and the error names the reason.
   */
  async function checkIncomplete(file: string, sentence: string): Promise<string> {
    const { out, err, status } = await ktstr("-j", "inspect", "--memory", path(file));
    expect(`${out}${err}`.includes(`${file} is incomplete: ${sentence}`)).toBe(true);
    if (status !== 0) return "cannot be opened";
    const shown = JSON.parse(out) as { maps: { id: number; name: string; bytes_value: number }[] };
    const whole = JSON.parse(raw) as typeof shown;
    for (const { id, name, bytes_value } of shown.maps)
      expect(whole.maps.find((map) => map.id === id)).toMatchObject({ name, bytes_value });
    expect(out === raw).toBe(false);
    return `shows ${shown.maps.length} of ${whole.maps.length} maps`;
  }

  test(
    "a dump of makedumpfile whose disk was full, and one that was cut off: ktstr says so and shows what is there",
    async () => {
      await makedumpfile("-c", "-d", "31", path("core"), path("kdump"));
      const { size } = statSync(path("kdump"));
      const results: string[] = [];
      for (const percent of [60, 95]) {
        await dumpToFullDisk(Math.floor((size * percent) / 100), path("core"), path("full"));
        // struct disk_dump_header, status
        expect(
          Buffer.from(await Bun.file(path("full")).slice(424, 428).arrayBuffer()).readUInt32LE() & 8,
        ).toBe(8);
        const result = await checkIncomplete("full", "the disk was full when it was written");
        results.push(`${percent}% written: ${result}`);
      }
      truncateSync(path("kdump"), Math.floor(size * 0.95));
      results.push(`95% left: ${await checkIncomplete("kdump", "it ends before its last pages")}`);
      console.log(results.join("; "));
      for (const file of ["kdump", "full"]) rmSync(path(file));
    },
    dumpMs,
  );

  for (const [tool, ...options] of [
    ["gzip", "-1"],
    ["xz", "-0", "-T2"],
    ["lz4", "-q"],
    ["zstd", "-q"],
  ] as const)
    test(
      `${tool}: the raw memory compressed, from a file and from a pipe`,
      async () => {
        const file = path(`mem.${tool}`);
        const out = Bun.file(file);
        expect(await Bun.spawn([tool, ...options, "-c", image.memoryPath], { stdout: out }).exited).toBe(0);
        expect(await inspect(`${file}@0`)).toBe(raw);
        const script = `"$0" -dc "$1" | exec "$2" "$3" -j inspect --memory -@0`;
        const child = Bun.spawn(["bash", "-c", script, tool, file, process.execPath, cli]);
        expect([await child.stdout.text(), await child.exited]).toEqual([raw, 0]);
        rmSync(file);
      },
      dumpMs,
    );

  // lime.lab.test.ts reads a dump that LiME itself wrote.
  test(
    "LiME's format, with the ranges of System RAM in the guest's /proc/iomem",
    async () => {
      const iomem = (await image.answers.text("iomem")) ?? "";
      const ranges = [...iomem.matchAll(/^([0-9a-f]+)-([0-9a-f]+) : System RAM$/gm)];
      expect(ranges.length).toBeGreaterThan(1);
      const memory = Bun.file(image.memoryPath);
      const output = Bun.file(path("lime")).writer();
      for (const [, first = "", last = ""] of ranges) {
        const header = Buffer.alloc(32);
        header.write("EMiL\x01", "latin1");
        header.writeBigUInt64LE(BigInt(`0x${first}`), 8);
        header.writeBigUInt64LE(BigInt(`0x${last}`), 16);
        output.write(header);
        for (let at = Number(`0x${first}`), end = Number(`0x${last}`) + 1; at < end; at += 2 ** 24) {
          output.write(await memory.slice(at, Math.min(at + 2 ** 24, end)).bytes());
          await output.flush();
        }
      }
      await output.end();
      expect(await inspect(path("lime"))).toBe(raw);
      rmSync(path("lime"));
    },
    dumpMs,
  );

  const PART_BYTES = 2 ** 24;

  /** Parts of the memory, in order. */
  async function* parts(): AsyncGenerator<Range> {
    const memory = Bun.file(image.memoryPath);
    for (let first = 0; first < memory.size; first += PART_BYTES)
      yield { first, bytes: await memory.slice(first, first + PART_BYTES).bytes() };
  }

  async function write(
    name: string,
    head: Uint8Array,
    each: (part: Range) => Iterable<Uint8Array>,
  ): Promise<string> {
    const output = Bun.file(path(name)).writer();
    output.write(head);
    for await (const part of parts()) {
      for (const bytes of each(part)) output.write(bytes);
      await output.flush();
    }
    await output.end();
    return path(name);
  }

  const nothing = new Uint8Array(0);
  const asItIs = ({ bytes }: Range): Iterable<Uint8Array> => [bytes];
  const compress = snappy();

  // Written by their descriptions (dump-writers.ts, kdump-writer.ts), with a real machine's memory.
  const snappySkipReason = compress === undefined ? ": no libsnappy on this machine" : "";
  for (const zeros of ["nothing", "header"] as const) {
    const left = `of blocks of zeros it has ${zeros === "nothing" ? "nothing" : "the headers"}`;
    test.skipIf(compress === undefined)(
      `AVML's compressed format; ${left}${snappySkipReason}`,
      async () => {
        const file = await write("avml", nothing, (part) => avmlBlocks(part, compress!, zeros));
        expect(await inspect(file)).toBe(raw);
        rmSync(file);
      },
      dumpMs,
    );

    test(
      `AVML's format without compression; ${left}`,
      async () => {
        const file = await write("avml", nothing, (part) => avmlPlainBlocks(part, zeros));
        expect(await inspect(file)).toBe(raw);
        rmSync(file);
      },
      dumpMs,
    );
  }

  // makedumpfile -p and QEMU's -s: Debian builds both without Snappy.
  test.skipIf(compress === undefined)(
    `kdump with Snappy${snappySkipReason}`,
    async () => {
      const ranges = [{ first: 0, bytes: readFileSync(image.memoryPath) }];
      writeKdump(path("kdump"), { ranges, flags: DUMP_DH_COMPRESSED_SNAPPY, compress: compress! });
      expect(await inspect(path("kdump"))).toBe(raw);
      rmSync(path("kdump"));
    },
    dumpMs,
  );

  test(
    "VMware's .vmem next to a .vmss, a .vmss that contains the memory, and VirtualBox's core",
    async () => {
      const ranges = [{ first: 0, length: Bun.file(image.memoryPath).size }];
      await Bun.write(path("vm.vmss"), vmwareState({ ranges, hasMemory: false }));
      symlinkSync(image.memoryPath, path("vm.vmem"));
      expect(await inspect(path("vm.vmem"))).toBe(raw);
      const whole = await write("whole.vmss", vmwareState({ ranges, hasMemory: true }), asItIs);
      appendFileSync(whole, VMWARE_END);
      expect(await inspect(whole)).toBe(raw);
      rmSync(path("whole.vmss"));
      // Two regions, in a state of 32 bits.
      const regions = [
        { first: 0, length: 2 ** 28 },
        { first: 2 ** 28, length: ranges[0]!.length - 2 ** 28 },
      ];
      const old = vmwareState({ ranges: regions, hasMemory: true, is32Bit: true });
      appendFileSync(await write("old.vmss", old, asItIs), VMWARE_END);
      expect(await inspect(path("old.vmss"))).toBe(raw);
      rmSync(path("old.vmss"));
      const core = vboxCoreHead(ranges, { first: 0xe000_0000, length: 2 ** 24 });
      expect(await inspect(await write("vbox", core, asItIs))).toBe(raw);
      rmSync(path("vbox"));
    },
    dumpMs,
  );
});
