/** Compressed memory files, and memory from a pipe: files that the system's tools compressed are read as the originals. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KtstrError, SyscallError } from "../../src/errors.ts";
import { sharedLibrary } from "../../src/ffi.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { TemporaryFile } from "../../src/guest/image/temporary.ts";
import { capturedImages } from "./captured.ts";
import { Mutator } from "./mutate.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const MIB = 2 ** 20;
const ROUNDS = Number(process.env["KTSTR_FUZZ_ROUNDS"] ?? 300);
/** More than the limit up to which decompressed zstd files stay in memory (zstd.ts). */
const PLAIN_BYTES = 80 * MIB;
const core = capturedImages()[0]!.memory;

let folder = "";
let temporary = "";
let plain: Buffer;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-compressed-"));
  temporary = join(folder, "temporary");
  mkdirSync(temporary);
  plain = Buffer.alloc(PLAIN_BYTES);
  // Data at both ends and in the middle of a block, with zeros between.
  const data = readFileSync(core);
  data.copy(plain, 4096);
  data.copy(plain, 40 * MIB + 12_345);
  data.copy(plain, PLAIN_BYTES - 1000);
  plain.write("raw memory");
  writeFileSync(join(folder, "plain"), plain);
});
afterAll(() => rmSync(folder, { recursive: true }));

const path = (name: string): string => join(folder, name);

interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs ktstr, with a file from `cat` as its standard input. */
function ktstr(words: readonly string[], given: { piped?: string; tmpdir?: string } = {}): Ran {
  const tmp = given.tmpdir ?? temporary;
  const command = [process.execPath, cli, ...words];
  const piped = ["sh", "-c", 'cat "$0" | exec "$@"', given.piped ?? "", ...command];
  const child = Bun.spawnSync(given.piped === undefined ? command : piped, {
    env: { ...process.env, TMPDIR: tmp },
    stdout: "pipe",
    stderr: "pipe",
  });
  // Temporary files of ktstr have no name, or no longer have one.
  if (statSync(tmp, { throwIfNoEntry: false }) !== undefined) expect(readdirSync(tmp)).toEqual([]);
  return { status: child.exitCode, out: child.stdout.toString(), err: child.stderr.toString() };
}

/** Returns the contents of the file, by reads of windows and by the visits of a search. */
function contents(file: string): Buffer {
  using image = new MemoryImage([{ path: file }]);
  const found = Buffer.alloc(image.sizeBytes);
  image.search((view, at) => {
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength).forEach((byte, index) => {
      if (byte !== 0) found[at + index] = byte;
    });
    return false;
  });
  return found;
}

const TOOLS = [
  { tool: "gzip", options: ["-1"], suffix: "gz" },
  { tool: "xz", options: ["-0"], suffix: "xz" },
  { tool: "xz", options: ["-0", "-T2", "--block-size=16MiB"], suffix: "blocks.xz" },
  { tool: "lz4", options: ["-q"], suffix: "lz4" },
  { tool: "lz4", options: ["-q", "-B4", "-BX", "--content-size"], suffix: "sums.lz4" },
  { tool: "zstd", options: ["-q", "-1"], suffix: "zst" },
  { tool: "zstd", options: ["-q", "-1", "--no-check", "--no-content-size"], suffix: "unsized.zst" },
  { tool: "bzip2", options: ["-1"], suffix: "bz2" },
  { tool: "lzop", options: ["-1"], suffix: "lzo" },
  { tool: "lzop", options: ["-1", "--crc32", "-F"], suffix: "crc.lzo" },
] as const;

for (const { tool, options, suffix } of TOOLS) {
  const why = Bun.which(tool) === null ? `no ${tool} on this machine` : "";
  describe.skipIf(why !== "")(`${[tool, ...options].join(" ")}${why === "" ? "" : `: ${why}`}`, () => {
    const file = (): string => path(`plain.${suffix}`);
    const compress = (from: string): Buffer => {
      const child = Bun.spawnSync([tool, ...options, "-c", from], { stdout: "pipe" });
      expect(child.exitCode).toBe(0);
      return child.stdout;
    };
    beforeAll(() => writeFileSync(file(), compress(path("plain"))));

    test("has the original contents, byte for byte", () => {
      expect(contents(file()).equals(plain)).toBe(true);
    });

    test("two concatenated files are the two contents", () => {
      const second = compress(core);
      writeFileSync(path("two"), Buffer.concat([readFileSync(file()), second]));
      using image = new MemoryImage([{ path: path("two") }]);
      expect(image.sizeBytes).toBe(PLAIN_BYTES + statSync(core).size);
    });

    test("of a captured machine gives the same answers as the capture, from a file and from a pipe", () => {
      const bytes = compress(core);
      writeFileSync(path(`core.${suffix}`), bytes);
      const expected = ktstr(["-j", "inspect", "--memory", core]);
      expect(expected.status).toBe(0);
      expect(expected.out.length).toBeGreaterThan(10_000);
      expect(ktstr(["-j", "inspect", "--memory", path(`core.${suffix}`)])).toEqual(expected);
      expect(ktstr(["-j", "inspect", "--memory", "-"], { piped: path(`core.${suffix}`) })).toEqual(expected);
    });

    test.each([0.3, 0.9, 1])("cut at %f of its length is an error that says so", (part) => {
      copyFileSync(file(), path("cut"));
      truncateSync(path("cut"), Math.floor(statSync(file()).size * part) - (part === 1 ? 3 : 0));
      const { status, out, err } = ktstr(["map", "show", "--memory", path("cut")]);
      expect([status, out]).toEqual([1, ""]);
      expect(err).toContain(`decompress ${path("cut")}: `);
      expect(err).toMatch(/damaged/);
    });

    test(`with damaged bytes gives contents or a KtstrError: ${ROUNDS} rounds`, () => {
      const small = compress(path("small"));
      writeFileSync(path("damaged"), small);
      using mutator = new Mutator(
        path("damaged"),
        [
          { name: "header", offset: 0, length: Math.min(40, small.length) },
          { name: "stream", offset: 0, length: small.length },
          { name: "end", offset: small.length - 24, length: 24 },
        ],
        7,
      );
      const outcomes = mutator.rounds(ROUNDS, () => {
        using image = new MemoryImage([{ path: path("damaged") }]);
        return image.sizeBytes > 0 ? "read" : "empty";
      });
      console.log(
        `${suffix}: ${JSON.stringify(Object.fromEntries(outcomes))}, at most ${mutator.longestMs.toFixed(0)} ms`,
      );
      expect(outcomes.get("empty")).toBeUndefined();
      expect(outcomes.get("error") ?? 0).toBeGreaterThan(0);
    }, 300_000);
  });
}
beforeAll(() => writeFileSync(path("small"), readFileSync(core).subarray(0, 300_000)));

test.skipIf(Bun.which("lz4") === null).each([0, 1, 2])(
  "an lz4 file can end with a skippable frame with %d bytes of content",
  (length) => {
    const child = Bun.spawnSync(["lz4", "-q", "-c", path("small")], { stdout: "pipe" });
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, length, 0, 0, 0, ...Buffer.alloc(length)]);
    writeFileSync(path("skippable.lz4"), Buffer.concat([child.stdout, skippable]));
    using image = new MemoryImage([{ path: path("skippable.lz4") }]);
    using original = new MemoryImage([{ path: path("small") }]);
    expect([image.sizeBytes, image.doubts]).toEqual([original.sizeBytes, []]);
  },
);

describe("memory from standard input", () => {
  const expected = (): Ran => ktstr(["map", "show", "--memory", core]);

  test.each(["-", "/dev/stdin"])("is read with --memory %s", (name) => {
    expect(ktstr(["map", "show", "--memory", name], { piped: core })).toEqual(expected());
  });

  test("is read from a shell's pipe, from a named pipe and from a file", () => {
    const run = (script: string): string => {
      const child = Bun.spawnSync(["bash", "-c", script, "sh", process.execPath, cli, core, path("fifo")], {
        env: { ...process.env, TMPDIR: temporary },
      });
      expect([child.exitCode, child.stderr.toString()]).toEqual([0, ""]);
      return child.stdout.toString();
    };
    const { out } = expected();
    expect(run('"$1" "$2" map show --memory <(cat "$3")')).toBe(out);
    expect(run('mkfifo "$4"; cat "$3" > "$4" & "$1" "$2" map show --memory "$4"')).toBe(out);
    expect(run('"$1" "$2" map show --memory - < "$3"')).toBe(out);
  });

  test("no input is an error", () => {
    const { status, err } = ktstr(["map", "show", "--memory", "-"], { piped: "/dev/null" });
    expect([status, err]).toEqual([1, expect.stringContaining("standard input: the file is empty")]);
  });
});

describe("the temporary file", () => {
  test("in a folder that does not exist is an error that names TMPDIR", () => {
    const { err } = ktstr(["map", "show", "--memory", "-"], { piped: core, tmpdir: "/nowhere" });
    expect(err).toContain("a temporary file in /nowhere: ENOENT");
    expect(err).toContain("Set TMPDIR");
  });

  test("in a file system without O_TMPFILE and without new files is an error that names TMPDIR", () => {
    const before = process.env["TMPDIR"];
    process.env["TMPDIR"] = "/proc";
    try {
      new TemporaryFile("memory");
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(SyscallError);
      expect(error).toMatchObject({
        message: expect.stringMatching(/^open a temporary file in \/proc: E/),
        hint: expect.stringContaining("Set TMPDIR"),
      });
    } finally {
      if (before === undefined) delete process.env["TMPDIR"];
      else process.env["TMPDIR"] = before;
    }
  });

  const isRoot = process.getuid?.() === 0;
  test.skipIf(!isRoot)(
    `without space is an error with the number of bytes that fitted${isRoot ? "" : ": not root"}`,
    () => {
      const full = path("full");
      mkdirSync(full);
      expect(Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", full]).exitCode).toBe(0);
      try {
        writeFileSync(path("noise"), Buffer.alloc(8 * MIB, "no zeros"));
        const { status, out, err } = ktstr(["map", "show", "--memory", "-"], {
          piped: path("noise"),
          tmpdir: full,
        });
        expect([status, out]).toEqual([1, ""]);
        expect(err).toContain(`unpack standard input: no space in ${full} after the first 4 MiB (ENOSPC)`);
        expect(err).toContain("Set TMPDIR");
      } finally {
        Bun.spawnSync(["umount", full]);
      }
    },
  );
});

test("a library that is missing in the system's folders is not looked for in the current folder", () => {
  const missing = (why: string): KtstrError => new KtstrError(why);
  expect(() => sharedLibrary(["libktstr-none.so.1"], {}, missing)).toThrow(
    "no libktstr-none.so.1 in /usr/lib",
  );
});
