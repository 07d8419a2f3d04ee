/**
 * A kernel that crashed, and its crash kernel, in one memory: two VMCOREINFOs. What bpftool and the loader said before the
 * crash is what the first holds; what bpftool says in the crash kernel is what that one holds. On 6.1 the crash kernel also
 * sends /proc/vmcore through makedumpfile, as distributions do: the dump answers as the memory.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, realpathSync, writeFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { labImage } from "../guest/images.ts";
import { Comparison } from "../guest/support/frozen.ts";
import { labSkipReason } from "./availability.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import { bootGuest, type FrozenGuest, writeMeta } from "./frozen.ts";
import { triplet, userland, withLibraries } from "./initramfs.ts";
import { fetchKernel, type KernelName } from "./kernels.ts";
import { packageTree } from "./packages.ts";
import { LabError, run } from "./process.ts";
import { compileStatic } from "./toolchain.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 1_800_000;
const MEMORY_MIB = 1024;
const VMCORE_MS = 900_000;

/** kexec_file_load(2) with KEXEC_FILE_ON_CRASH: arguments are the kernel, the initrd and the command line. */
const LOADER = `
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int kernel = open(argv[1], O_RDONLY), initrd = open(argv[2], O_RDONLY);
  if (kernel < 0 || initrd < 0) { perror("open"); return 1; }
  if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3], KEXEC_FILE_ON_CRASH) == 0) return 0;
  perror("kexec_file_load");
  return 1;
}
`;

/** The crash kernel's init. What it says goes to the console, line by line; the dump to the other serial port. */
const INIT = `#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t bpf bpf /sys/fs/bpf
exec > /dev/console 2>&1
bpftool map create /sys/fs/bpf/crash type hash key 4 value 8 entries 8 name in_crash
bpftool map update pinned /sys/fs/bpf/crash key 1 2 3 4 value 5 6 7 8 9 10 11 12
echo
echo "crash-kernel cmdline: $(cat /proc/cmdline)"
echo "crash-kernel maps: $(bpftool -j map show)"
echo "crash-kernel dump: $(bpftool -j map dump pinned /sys/fs/bpf/crash)"
echo "crash-kernel map_idr: $(grep ' map_idr$' /proc/kallsyms)"
if [ -e /makedumpfile/makedumpfile ]; then
  stty -F /dev/ttyS1 raw -echo
  cd /makedumpfile
  ./ld.so --library-path . ./makedumpfile -F -l -d 31 /proc/vmcore > /dev/ttyS1
  echo "crash-kernel makedumpfile: $?"
fi
echo "crash-kernel done: yes"
while :; do sleep 1000; done
`;

const APPLETS = ["sh", "mount", "cat", "echo", "grep", "stty", "sleep"];

async function fileEntry(path: string, from: string): Promise<CpioEntry> {
  return { kind: "file", path, data: new Uint8Array(await readFile(from)), executable: true };
}

/** The crash kernel's initramfs; with makedumpfile and its libraries if asked. */
async function crashInitramfs(withDump: boolean): Promise<Uint8Array<ArrayBuffer>> {
  const tree = await userland("amd64");
  const place = (...names: string[]): string => {
    const path = names.map((name) => join(tree, name)).find((name) => existsSync(name));
    if (path === undefined) throw new LabError(`lab: ${tree} lacks ${names[0]}`);
    return path;
  };
  const busybox = place("usr/bin/busybox", "bin/busybox");
  const bpftool = place("usr/sbin/bpftool", "usr/bin/bpftool");
  const entries: CpioEntry[] = [
    ...["proc", "sys", "dev", "tmp", "usr/lib64"].map((path): CpioEntry => ({ kind: "directory", path })),
    { kind: "symlink", path: "lib", target: "usr/lib" },
    { kind: "symlink", path: "lib64", target: "usr/lib64" },
    { kind: "device", path: "dev/console", major: 5, minor: 1 },
    { kind: "file", path: "init", data: new TextEncoder().encode(INIT), executable: true },
    ...(await withLibraries({ from: busybox, to: "bin/busybox" }, "amd64")),
    ...(await withLibraries({ from: bpftool, to: "bin/bpftool" }, "amd64")),
    ...APPLETS.map((name): CpioEntry => ({ kind: "symlink", path: `bin/${name}`, target: "busybox" })),
  ];
  if (!withDump) return cpio(entries);
  const { program, loader, libraries } = await dumpTool();
  entries.push(
    await fileEntry("makedumpfile/makedumpfile", program),
    await fileEntry("makedumpfile/ld.so", loader),
  );
  for (const name of LIBRARIES)
    entries.push(await fileEntry(`makedumpfile/${name}`, realpathSync(join(libraries, name))));
  return cpio(entries);
}

const LIBRARIES =
  "libc.so.6 libdw.so.1 libelf.so.1 libz.so.1 libbz2.so.1.0 liblzma.so.5 liblzo2.so.2 libzstd.so.1".split(
    " ",
  );
const PACKAGES =
  "makedumpfile libc6 libdw1t64 libelf1t64 zlib1g libbz2-1.0 liblzma5 liblzo2-2 libzstd1".split(" ");

/** Paths of makedumpfile, its loader and its libraries' folder. */
async function dumpTool(): Promise<{
  readonly program: string;
  readonly loader: string;
  readonly libraries: string;
}> {
  const tree = await packageTree("sid", "amd64", PACKAGES);
  const libraries = join(tree, "usr/lib", triplet.amd64);
  const loader = realpathSync(join(libraries, "ld-linux-x86-64.so.2"));
  return { program: join(tree, "usr/bin/makedumpfile"), loader, libraries };
}

interface Ran {
  readonly out: string;
  readonly err: string;
}

async function ktstr(...words: readonly string[]): Promise<Ran> {
  const child = Bun.spawn([process.execPath, cli, ...words], { stderr: "pipe" });
  const [out, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (status !== 0) throw new Error(err);
  return { out, err };
}

/** A value that the crash kernel's init printed; undefined if it did not yet. */
function said(console: string, key: string): string | undefined {
  return new RegExp(`^crash-kernel ${key}: (.*?)\\r?$`, "m").exec(console)?.[1];
}

async function waitForEnd(guest: FrozenGuest): Promise<string> {
  for (const started = Date.now(); Date.now() - started < VMCORE_MS; await Bun.sleep(500)) {
    const console = await guest.console();
    if (said(console, "done") !== undefined) return console;
  }
  throw new LabError(`lab: the crash kernel did not end: ${(await guest.console()).slice(-2000)}`);
}

const OTHER =
  /^ktstr: warn: This memory contains two kernels\..* --vmcoreinfo (0x[0-9a-f]+) uses the other one\.$/;
/** Returns an inspection without the warning about a second kernel, whose memory is not in a dump. */
function withoutOther(json: string): Record<string, unknown> {
  const inspection = JSON.parse(json) as { warnings: string[] };
  const warnings = inspection.warnings.filter(
    (sentence) => !sentence.startsWith("This memory contains two kernels."),
  );
  return { ...inspection, warnings };
}

const ids = (json: string | undefined): number[] =>
  (JSON.parse(json ?? "") as { id: number }[]).map(({ id }) => id);

const why = await labSkipReason();
const isAll = process.env["KTSTR_LAB"] === "all";
const reason = why !== "" ? `: ${why}` : isAll ? "" : ": under KTSTR_LAB=all";

for (const name of ["6.1", "sid"] as const satisfies readonly KernelName[])
  describe.skipIf(reason !== "")(`${name} and its crash kernel${reason}`, () => {
    const withDump = name === "6.1";
    let folder = "";
    let guest: FrozenGuest;
    let console = "";
    let memory: readonly string[] = [];
    const path = (file: string): string => join(folder, file);

    beforeAll(async () => {
      folder = await mkdtemp(join(process.env["KTSTR_LAB_TMP"] ?? tmpdir(), "ktstr-crash-"));
      const kernel = await fetchKernel(name);
      writeFileSync(path("loader.c"), LOADER);
      await compileStatic("amd64", path("loader"), ["-Wall", "-Werror", path("loader.c")]);
      const overlay = cpio([
        await fileEntry("crash/loader", path("loader")),
        await fileEntry("crash/vmlinuz", kernel.image),
        { kind: "file", path: "crash/initrd", data: await crashInitramfs(withDump) },
      ]);
      await mkdir(path("guest"));
      guest = await bootGuest({
        kernel: name,
        zoo: true,
        memoryMiB: MEMORY_MIB,
        append: "crashkernel=256M",
        overlays: [overlay],
        dir: path("guest"),
      });
      await guest.thaw();
      const words = "console=ttyS0 quiet nr_cpus=1 irqpoll reset_devices panic=0 in.crash";
      const loaded = await guest.exec(`/crash/loader /crash/vmlinuz /crash/initrd "${words}"`);
      expect([loaded.status, loaded.stderr]).toEqual([0, ""]);
      // The agent's port becomes a file, to which the crash kernel sends its dump.
      await guest.exec("{ sleep 3; echo c > /proc/sysrq-trigger; } > /dev/null 2>&1 &");
      const data = { out: path("dump.flat") };
      await guest.qmp("chardev-change", { id: "agent", backend: { type: "file", data } });
      await guest.panic();
      console = await waitForEnd(guest);
      await guest.freeze();
      memory = ["--memory", `${guest.memoryPath}@0`];
    }, bootMs);
    afterAll(async () => {
      await guest?.[Symbol.asyncDispose]();
      if (folder !== "") await rm(folder, { recursive: true, force: true });
    });

    test("the kernel that crashed is read; the other one, and how to take it, are said", async () => {
      expect(said(console, "cmdline")).toContain("in.crash");
      const { out, err } = await ktstr("-j", "map", "show", ...memory);
      expect(err.trim()).toMatch(OTHER);
      expect(ids(out)).toEqual(ids(await guest.answers.text("map-show.json")));
      const [, other = ""] = OTHER.exec(err.trim())!;
      // The crash kernel answers for itself.
      const theirs = await ktstr("-j", "map", "show", ...memory, "--vmcoreinfo", other);
      expect(ids(theirs.out)).toEqual(ids(said(console, "maps")));
      const made = (JSON.parse(theirs.out) as { id: number; name?: string }[]).find(
        (map) => map.name === "in_crash",
      );
      const dump = await ktstr("-j", "map", "dump", "id", String(made?.id), ...memory, "--vmcoreinfo", other);
      expect(JSON.parse(dump.out)).toEqual(JSON.parse(said(console, "dump") ?? ""));
      using kernel = openKernel({
        memory: [{ path: guest.memoryPath, physical: 0 }],
        vmcoreinfo: Number(other),
      });
      const { hi, lo } = kernel.symbols.address("map_idr")!;
      const [address] = said(console, "map_idr")!.split(" ");
      expect((BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)).toBe(BigInt(`0x${address}`));
    });

    test("maps, programs and links are those of bpftool and the loader before the crash", async () => {
      await writeMeta(guest);
      const image = labImage(name, guest.dir);
      using kernel = openKernel({ memory: [{ path: guest.memoryPath, physical: 0 }] });
      const { differences, tallies } = new Comparison(image, kernel);
      expect(differences).toEqual([]);
      const elements = [...tallies.values()].reduce((sum, each) => sum + each.elements, 0);
      globalThis.console.log(`${name}: ${tallies.size} kinds of maps, ${elements} elements`);
      expect(elements).toBeGreaterThan(1000);
      for (const kind of ["prog", "link"]) {
        const { out } = await ktstr("-j", kind, "show", ...memory);
        expect(ids(out)).toEqual(ids(await guest.answers.text(`${kind}-show.json`)));
      }
    });

    test.skipIf(!withDump)(
      "/proc/vmcore by makedumpfile -l -d 31, flattened and put together, answers as the memory",
      async () => {
        expect(said(console, "makedumpfile"), console.slice(-3000)).toBe("0");
        const raw = (await ktstr("-j", "inspect", ...memory)).out;
        expect(raw.length).toBeGreaterThan(100_000);
        const expected = withoutOther(raw);
        const { program, loader, libraries } = await dumpTool();
        const input = await Bun.file(path("dump.flat")).bytes();
        await run([loader, "--library-path", libraries, program, "-R", path("dump")], { input });
        for (const file of ["dump.flat", "dump"]) {
          const { out, err } = await ktstr("-j", "inspect", "--memory", path(file));
          expect(err).toBe("");
          const shown = withoutOther(out);
          const differing = Object.keys(expected).filter((key) => !Bun.deepEquals(shown[key], expected[key]));
          expect([file, differing]).toEqual([file, []]);
        }
      },
      300_000,
    );
  });
