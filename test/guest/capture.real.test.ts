/** Captures of the lab's frozen machines: their output, and their contents. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { openGuest } from "../../src/guest/guest.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { labDir } from "../lab/cache.ts";
import { capturedImages } from "./captured.ts";
import { eachMachine, labImages } from "./images.ts";
import { allOutput } from "./support/all-output.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-capture-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function ktstr(...args: string[]): { readonly status: number; readonly out: Buffer; readonly err: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, cli, ...args]);
  return { status: exitCode, out: stdout, err: stderr.toString() };
}

/** Returns the first difference of two outputs, for the error. */
function firstDifference(a: Buffer, b: Buffer): string {
  if (a.equals(b)) return "";
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  const near = (bytes: Buffer): string => bytes.toString("latin1", Math.max(0, at - 80), at + 80);
  return `byte ${at} of ${a.length} and ${b.length}: ${near(a)}\n--- and ---\n${near(b)}`;
}

const hasDrgn =
  Bun.which("python3") !== null && Bun.spawnSync(["python3", "-c", "import drgn"]).exitCode === 0;

/** Timeout for reading a dump of some GiB from a disk several times. */
const DISK_MS = 300_000;
const FOLLOW = 3;

// Without a lab, captures of captures: the same walks through the same pages.
const frozen = await labImages();
const machines = frozen.length > 0 ? frozen : capturedImages();
/** Dumps of some of a machine's programs. */
function codeOf(memory: string): string[][] {
  using guest = openGuest({ memory });
  return guest
    .progs()
    .slice(0, 8)
    .map(({ id }) => ["prog", "dump", "xlated", "id", String(id), "linum"]);
}

eachMachine(machines, (image, name) => {
  const path = (file: string): string => join(folder, `${name} ${file}`);
  const capture = (memory: string, to: string, ...options: string[]): Buffer => {
    const made = ktstr("capture", "--memory", memory, "-o", path(to), "--force", ...options);
    expect(made.status).toBe(0);
    return made.out;
  };
  beforeAll(() => void capture(image.memory, "vmcore", "--follow", `${FOLLOW}`), DISK_MS);

  test(
    "all output of the capture is equal to that of the memory, byte for byte",
    () => {
      const of = (memory: string, to: string): Buffer => allOutput(memory, path(to), 1000, FOLLOW);
      const [ours, theirs] = [of(path("vmcore"), "a"), of(image.memory, "b")];
      expect(firstDifference(ours, theirs)).toBe("");
      expect(ours.length).toBeGreaterThan(100_000);
      for (const args of [["inspect"], ["-j", "map", "show"], ["prog", "show"], ["btf", "dump", "vmlinux"]])
        expect(ktstr(...args, "--memory", path("vmcore"))).toEqual(ktstr(...args, "--memory", image.memory));
      // These pages contain the name of the file that they come from.
      for (const args of [
        ["sched"],
        ["-j", "sched"],
        ["sched", "dump"],
        ["task", "show"],
        ["-j", "task", "show"],
        ["task", "stack", "pid", "2"],
        ["dmesg"],
        ...codeOf(image.memory),
      ]) {
        const printed = (file: string): unknown => {
          const { status, out, err } = ktstr(...args, "--memory", file);
          return {
            args,
            status,
            out: out.toString().replaceAll(file, "FILE"),
            err: err.replaceAll(file, "FILE"),
          };
        };
        expect(printed(path("vmcore"))).toEqual(printed(image.memory));
      }
    },
    DISK_MS,
  );

  test(
    "the same memory gives the same file, compressed or not, and a capture of a capture is that capture",
    () => {
      capture(image.memory, "again.zst", "--follow", `${FOLLOW}`);
      const compressed = readFileSync(path("again.zst"));
      expect(compressed.length).toBeLessThan(6e6);
      expect(zstdDecompressSync(compressed).equals(readFileSync(path("vmcore")))).toBe(true);
      capture(path("again.zst"), "of a capture.zst", "--follow", `${FOLLOW}`);
      expect(readFileSync(path("of a capture.zst")).equals(compressed)).toBe(true);
    },
    DISK_MS,
  );

  test(
    "it has only pages of the memory",
    () => {
      using whole = openKernel({ memory: [{ path: image.memory }] });
      using part = openKernel({ memory: [{ path: path("vmcore") }] });
      expect(part.found.info.text).toBe(whole.found.info.text);
      for (const { physical, bytes } of part.memory.physical.windows) {
        const same = new Uint8Array(bytes.length);
        expect(whole.memory.physical.copyOut(physical, same)).toBe(bytes.length);
        expect(Buffer.compare(same, bytes)).toBe(0);
      }
    },
    DISK_MS,
  );

  test(
    "without values it has only attributes and struct_ops maps, and says why there are no other values",
    () => {
      const said = capture(image.memory, "bare", "--no-values", "-j");
      for (const what of ["map", "prog", "link", "btf"])
        expect(ktstr("-j", what, "show", "--memory", path("bare"))).toEqual(
          ktstr("-j", what, "show", "--memory", image.memory),
        );
      const maps = JSON.parse(ktstr("-j", "map", "show", "--memory", path("bare")).out.toString()) as {
        id: number;
        type: string;
      }[];
      const always = maps.filter(({ type }) => type === "struct_ops").length;
      const { maps_with_contents: full, elements } = JSON.parse(said.toString());
      expect([full, elements <= always]).toEqual([always, true]);
      const hash = maps.find(({ type }) => type === "hash")!;
      const dump = ktstr("-j", "map", "dump", "id", `${hash.id}`, "--memory", path("bare"));
      expect([dump.status, dump.out.toString()]).toEqual([1, "[]\n"]);
      expect(dump.err).toContain("the capture was made without this map's contents");
      capture(image.memory, "bare", "--maps", `${hash.id}`);
      const id = ["map", "dump", "id", `${hash.id}`, "--memory"];
      expect(ktstr(...id, path("bare"))).toEqual(ktstr(...id, image.memory));
    },
    DISK_MS,
  );

  // Not run in CI: the kernel's debug info is a package of 1.2 GB (ARCHITECTURE.md).
  const vmlinux = join(labDir(), "debug", `vmlinux-${image.answer("release")?.trim()}`);
  test.skipIf(!hasDrgn || !existsSync(vmlinux))(
    "drgn, with the kernel's debug info, lists the maps that bpftool listed",
    () => {
      const listed = Bun.spawnSync(["python3", "-c", DRGN, path("vmcore"), vmlinux]);
      expect([listed.exitCode, listed.stderr.toString()]).toEqual([0, ""]);
      const shown = JSON.parse(image.answer("map-show.json") ?? "") as Readonly<Record<string, unknown>>[];
      const theirs = shown.map((map) => [map["id"], map["name"] ?? "", map["bytes_key"], map["max_entries"]]);
      expect(JSON.parse(listed.stdout.toString())).toEqual(theirs);
    },
    DISK_MS,
  );
});

const DRGN = `
import json, sys, drgn
from drgn.helpers.linux import idr_for_each
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])
maps = (drgn.Object(prog, "struct bpf_map *", value=at) for _, at in idr_for_each(prog["map_idr"].address_of_()))
name = lambda each: each.name.string_().decode()
print(json.dumps([[int(each.id), name(each), int(each.key_size), int(each.max_entries)] for each in maps]))
`;
