/** Programs on perf events of the running kernel, compared with bpftool. */
import { afterAll, describe, expect, test } from "bun:test";
import { SyscallError } from "../../src/errors.ts";
import { queryDescriptors } from "../../src/live/perf-fds.ts";
import { EPERM } from "../../src/uapi/errno.ts";
import { kernelSkipReason, ktstr, ktstrJson, parseExact, spawn } from "./bpftool.ts";
import { FakeKernel } from "./fake.ts";
import { Kit } from "./kit.ts";
import { openRawTracepoint } from "./kit-links.ts";
import { loadProg } from "./kit-progs.ts";

describe.skipIf(kernelSkipReason() !== "")("perf show", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());

  /** Only descriptors of this process, because other processes open and close theirs between two listings. */
  const mine = (list: unknown): unknown[] =>
    (list as { readonly pid: number }[]).filter(({ pid }) => pid === process.pid);

  test("has the descriptors of bpftool", () => {
    const prog = loadProg(kit, { type: "raw_tracepoint" });
    openRawTracepoint(kit, prog, "sys_enter");
    const theirs = mine(parseExact(spawn(["bpftool", "-j", "perf", "show"]).out));
    expect(theirs).toMatchObject([{ prog_id: prog.id, fd_type: "raw_tracepoint", tracepoint: "sys_enter" }]);
    expect(mine(ktstrJson("perf", "show"))).toEqual(theirs);
    const lines = (text: string): string[] =>
      text.split("\n").filter((line) => line.startsWith(`pid ${process.pid} `));
    expect(lines(ktstr(["perf", "list"]).out)).toEqual(lines(spawn(["bpftool", "perf", "list"]).out));
    expect(ktstr(["perf", "show", "id", "1"]).status).toBe(2);
  });
});

test("refused descriptors are skipped; if all are refused, the error names the missing privilege", () => {
  const kernel = new FakeKernel();
  kernel.directories.set("/proc", ["2", "self", "1"]);
  kernel.directories.set("/proc/1/fd", ["0"]);
  kernel.directories.set("/proc/2/fd", ["10", "9"]);
  let refused: readonly number[] = [1];
  kernel.instead = (command, attr) => {
    if (command !== "BPF_TASK_FD_QUERY") return undefined;
    if (refused.includes(attr.get("pid"))) return -EPERM;
    attr.pointee("buf")?.set(Buffer.from("vfs_read\0"));
    attr
      .set("prog_id", attr.get("fd"))
      .set("fd_type", 3)
      .set("probe_offset", 2 ** 40);
    return 0;
  };
  const offset = 2n ** 40n;
  expect(queryDescriptors(kernel)).toEqual(
    [9, 10].map((fd) => ({
      ...{ pid: 2, fd, progId: fd, kind: "kretprobe", name: Buffer.from("vfs_read"), offset, address: 0n },
    })),
  );
  refused = [1, 2];
  try {
    queryDescriptors(kernel);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(SyscallError);
    expect((error as SyscallError).hint).toContain("CAP_SYS_ADMIN");
  }
});
