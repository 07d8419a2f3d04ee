/** Programs of the running kernel's cgroups, with and without links, compared with bpftool. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, rmdirSync } from "node:fs";
import { SyscallError } from "../../src/errors.ts";
import { queryCgroups } from "../../src/live/cgroup-progs.ts";
import { E2BIG, EBADF, EINVAL, EPERM } from "../../src/uapi/errno.ts";
import { ATTACH_TYPES } from "../../src/uapi/names.ts";
import { kernelSkipReason, ktstr, parseExact, spawn } from "./bpftool.ts";
import { FakeKernel } from "./fake.ts";
import { Kit } from "./kit.ts";
import { addCgroup, cgroup2Root, createLink } from "./kit-links.ts";
import { loadProg, openPath, returns } from "./kit-progs.ts";

const root = cgroup2Root();

/** bpftool's column for the hooked function is blank or missing. */
const trimmed = (text: string): string => text.replace(/ +$/gm, "");

describe.skipIf(kernelSkipReason() !== "" || root === undefined)("programs of cgroups", () => {
  let kit: Kit;
  let outer = "";
  let inner = "";

  beforeAll(() => {
    kit = new Kit();
    outer = addCgroup(kit).toString();
    inner = `${outer}/in ner`;
    mkdirSync(inner);
    kit.defer(() => rmdirSync(inner));
    const skb = loadProg(kit, { type: "cgroup_skb", code: returns(1), name: "skb" });
    const sock = loadProg(kit, { type: "cgroup_sock", code: returns(1), name: "sock" });
    const device = loadProg(kit, { type: "cgroup_device", code: returns(1), name: "device" });
    createLink(kit, skb, { attach: "cgroup_inet_egress", target: openPath(kit, outer) });
    for (const [path, type, prog, flags] of [
      [outer, "cgroup_inet_sock_create", sock.id, "multi"],
      [outer, "cgroup_device", device.id, "override"],
      [inner, "cgroup_device", device.id, ""],
    ] as const) {
      const words = ["cgroup", "attach", path, type, "id", String(prog), ...(flags === "" ? [] : [flags])];
      expect(spawn(["bpftool", ...words])).toMatchObject({ status: 0, err: "" });
      kit.defer(() => void spawn(["bpftool", "cgroup", "detach", path, type, "id", String(prog)]));
    }
  });
  afterAll(() => kit[Symbol.dispose]());

  const listings = (): string[][] => [
    ["tree"],
    ["tree", root!],
    ["tree", root!, "effective"],
    ["tree", outer],
    ["show", outer],
    ["list", inner],
    ["show", inner, "e"],
    ["show", root!],
  ];

  test("are equal to bpftool's, line for line", () => {
    for (const words of listings()) {
      const theirs = spawn(["bpftool", "cgroup", ...words]).out;
      expect([words, ktstr(["cgroup", ...words])]).toEqual([
        words,
        { status: 0, out: expect.anything(), err: "" },
      ]);
      expect([words, trimmed(ktstr(["cgroup", ...words]).out)]).toEqual([words, trimmed(theirs)]);
    }
    expect(ktstr(["cgroup", "tree"]).out).toContain("cgroup_device   override        device");
  });

  test("are equal to bpftool's in JSON", () => {
    for (const words of listings()) {
      const theirs = spawn(["bpftool", "-j", "cgroup", ...words]).out.replaceAll('"attach_btf_name":"",', "");
      const ours = ktstr(["-j", "cgroup", ...words]).out;
      // For a cgroup without programs bpftool prints nothing.
      expect([words, parseExact(ours)]).toEqual([words, theirs.trim() === "" ? [] : parseExact(theirs)]);
    }
  });

  test("a path that is not a cgroup is an error", () => {
    expect(ktstr(["cgroup", "show", "/no/such"])).toMatchObject({
      status: 1,
      err: expect.stringContaining("/no/such: ENOENT"),
    });
    expect(ktstr(["cgroup", "tree", "/"])).toMatchObject({
      status: 1,
      err: expect.stringContaining("/ is not the directory of a cgroup of cgroup2"),
    });
    expect(ktstr(["cgroup", "show"]).status).toBe(2);
    expect(ktstr(["cgroup", "tree", root!, "all"]).status).toBe(2);
  });
});

describe("BPF_PROG_QUERY", () => {
  const DEVICE = ATTACH_TYPES.indexOf("cgroup_device");
  const tree = { path: undefined, isTree: true, isEffective: false };

  /** A kernel whose cgroup /c/a has program 7 on its devices, and that has no other attach type. */
  function kernelWith(
    refusal: (attr: Parameters<FakeKernel["instead"]>[1]) => number | undefined,
  ): FakeKernel {
    const kernel = new FakeKernel();
    kernel.files.set("/proc/self/mounts", "x /c cgroup2 rw 0 0\n");
    kernel.directories.set("/c", ["a"]);
    kernel.directories.set("/c/a", []);
    kernel.instead = (command, attr) => {
      if (command !== "BPF_PROG_QUERY") return undefined;
      const refused = refusal(attr);
      if (refused !== undefined) return refused;
      if (attr.get("attach_type") !== DEVICE) return -EINVAL;
      const ids = attr.pointee("prog_ids");
      if (ids !== undefined) new DataView(ids.buffer).setUint32(0, 7, true);
      attr.set("prog_cnt", 1).set("attach_flags", 1);
      return 0;
    };
    return kernel;
  }

  test("a kernel before 6.0, which has no flags of each program, returns those of the attach type", () => {
    const kernel = kernelWith((attr) =>
      attr.pointee("prog_attach_flags") === undefined ? undefined : -E2BIG,
    );
    expect(() => queryCgroups(kernel, { ...tree, path: "/d" })).toThrow("/d: ENOENT");
    expect(queryCgroups(kernel, tree)).toEqual([
      { path: Buffer.from("/c"), level: 0, progs: [{ attachType: DEVICE, progId: 7, flags: 1 }] },
      { path: Buffer.from("/c/a"), level: 1, progs: [{ attachType: DEVICE, progId: 7, flags: 1 }] },
    ]);
  });

  test("a refusal is an error that names the privilege, and a path that is not a cgroup is named", () => {
    const refused = kernelWith(() => -EPERM);
    expect(() => queryCgroups(refused, tree)).toThrow(SyscallError);
    const other = kernelWith(() => -EBADF);
    expect(() => queryCgroups(other, tree)).toThrow("/c is not the directory of a cgroup of cgroup2");
    other.files.set("/proc/self/mounts", "none /c tmpfs rw 0 0\n");
    expect(() => queryCgroups(other, tree)).toThrow("cgroup2 is not mounted");
    other.files.delete("/proc/self/mounts");
    expect(() => queryCgroups(other, tree)).toThrow("/proc/self/mounts, which lists the mounts of cgroup2");
  });
});
