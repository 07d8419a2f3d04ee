/** Features of the running kernel, and file systems for tokens, compared with bpftool. */
import { describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { SyscallError } from "../../src/errors.ts";
import { readConfig } from "../../src/guest/bpf/features.ts";
import type { GuestMemory } from "../../src/guest/memory/memory.ts";
import { probeFeatures } from "../../src/live/features.ts";
import { readTokenMounts } from "../../src/live/tokens.ts";
import { EPERM } from "../../src/uapi/errno.ts";
import { CLI, kernelSkipReason, ktstr, spawn } from "./bpftool.ts";
import { FakeKernel } from "./fake.ts";

describe.skipIf(kernelSkipReason() !== "")("feature probe", () => {
  test.each(["feature probe", "-j feature probe kernel", "-j feature probe full"])(
    "%s has bpftool's answers",
    (line) => {
      const words = line.split(" ");
      const theirs = spawn(["bpftool", ...words]);
      expect(ktstr(words)).toEqual({ ...theirs, err: "" });
      expect(theirs.out.length).toBeGreaterThan(10_000);
    },
  );

  test("macros have bpftool's lines, without the comment on how to use them", () => {
    const words = ["feature", "probe", "macros", "prefix", "T_"];
    const theirs = spawn(["bpftool", ...words]).out.replace(/\/\*\n.*?\n \*\/\n/s, "");
    expect(ktstr(words)).toEqual({ status: 0, out: theirs, err: "" });
    expect(theirs).toContain("#define T_HAVE_PROG_TYPE_HELPER(prog_type, helper)");
  });

  test("probes that ktstr does not make are errors that name a tool", () => {
    for (const words of [["dev", "lo"], ["unprivileged"], ["prefix", "X"], ["kernel", "kernel"], ["all"]])
      expect([words, ktstr(["feature", "probe", ...words]).status]).toEqual([words, 2]);
    expect(ktstr(["feature", "probe", "unpriv"]).err).toContain("bpftool feature probe unprivileged");
  });
});

test.each([
  [1000, "BPF_PROG_LOAD needs CAP_BPF and CAP_PERFMON: run as root"],
  [0, "before Linux 5.11 also a higher RLIMIT_MEMLOCK"],
])("if user %i may not load programs, the error names what is missing", (user, hint) => {
  const kernel = new FakeKernel();
  kernel.fail("BPF_PROG_LOAD", EPERM);
  const geteuid = spyOn(process, "geteuid").mockReturnValue(user);
  try {
    probeFeatures(kernel, "7.2.0", false);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(SyscallError);
    expect((error as SyscallError).hint).toContain("CAP_BPF");
    expect((error as SyscallError).hint).toContain(hint);
  } finally {
    geteuid.mockRestore();
  }
});

test("a configuration in memory is read between its marks, across pages", () => {
  const text = "#\n# Automatically generated file; DO NOT EDIT.\nCONFIG_HZ=250\n".repeat(4000);
  const noise = Array.from({ length: 9000 }, (_, index) => `CONFIG_X${(index * 7919) % 104_729}=y\n`).join(
    "",
  );
  // kernel/configs.c: the symbols are after the first mark and before the second.
  const image = Buffer.concat([gzipSync(text + noise), Buffer.from("IKCFG_ED")]);
  expect(image.length).toBeGreaterThan(3 * 4096);
  const start = { hi: -1, lo: 0x1000 };
  const memory = {
    copy: (_: number, lo: number, offset: number, length: number) =>
      image.subarray(lo - start.lo + offset, lo - start.lo + offset + length),
  } as unknown as GuestMemory;
  const addresses: Record<string, typeof start> = {
    kernel_config_data: start,
    kernel_config_data_end: { hi: -1, lo: start.lo + image.length - 8 },
  };
  const symbols = {
    source: "a test",
    count: 2,
    address: (name: string) => addresses[name],
    nearest: () => ({ name: "kernel_config_data", offset: 0, sizeBytes: image.length }),
  };
  expect(readConfig({ memory, symbols })).toBe(text + noise);
  delete addresses["kernel_config_data_end"];
  expect(readConfig({ memory, symbols })).toBe(text + noise);
  image.fill(0x41, 5000, 5100);
  expect(() => readConfig({ memory, symbols })).toThrow("kernel_config_data");
});

describe.skipIf(kernelSkipReason() !== "")("token list", () => {
  test("has the file systems of bpftool", () => {
    const folder = mkdtempSync(join(tmpdir(), "ktstr-token-"));
    const mounts = [
      ["delegate_cmds=any", join(folder, "ktstr token")],
      [
        "delegate_cmds=prog_load:map_create:btf_load:link_create:obj_get,delegate_attachs=0x6",
        join(folder, "ktstr-token"),
      ],
    ];
    const script = `
set -e
mount -t tmpfs none '${folder}'
${mounts.map(([options, path]) => `mkdir '${path}'; mount -t bpf -o ${options} none '${path}'`).join("\n")}
for flags in "" -j; do
  echo "== theirs"; bpftool $flags token list
  echo "== ours"; ${process.execPath} ${CLI} $flags token list
done`;
    const { status, out, err } = spawn(["unshare", "-m", "sh", "-c", script]);
    rmdirSync(folder);
    expect([status, err]).toEqual([0, ""]);
    const [, text, ourText, json, ourJson] = out.split(/== (?:theirs|ours)\n/);
    expect([ourText, ourJson?.trim()]).toEqual([text!, json?.trim()]);
    expect(json).toContain("ktstr token");
    expect(ktstr(["token", "list", "all"]).status).toBe(2);
  });
});

test("a mount's path may have a blank; file systems without delegation are not listed", () => {
  const kernel = new FakeKernel();
  kernel.files.set(
    "/proc/self/mounts",
    "bpf /sys/fs/bpf bpf rw,mode=700 0 0\nx /a\\040b bpf rw,delegate_maps=array:0x80,delegate_progs=any 0 0\nt /t tmpfs rw,delegate_cmds=any 0 0\n",
  );
  expect(readTokenMounts(kernel)).toEqual([
    { path: Buffer.from("/a b"), cmds: [], maps: ["array", "0x80"], progs: ["any"], attachs: [] },
  ]);
  kernel.files.delete("/proc/self/mounts");
  expect(() => readTokenMounts(kernel)).toThrow("/proc/self/mounts");
});
