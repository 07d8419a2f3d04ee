/** Places where the lab's programs were attached: texts of their links, compared with their sources and the guest's files. */
import { expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { linkPlaces } from "../../src/report/link-place.ts";
import { printable } from "../../src/text.ts";
import { capturedImages } from "./captured.ts";
import { eachMachine, labImages } from "./images.ts";

/** Place that test/lab/zoo attaches a program to, by the program's name. */
const ATTACHED: Readonly<Record<string, RegExp>> = {
  z_raw_tp: /^at tracepoint sys_enter$/,
  z_tp_btf: /^at tracepoint sched_switch$/,
  z_tracepoint: /^at tracepoint sched_process_fork$/,
  z_kprobe: /^at function __(x64|arm64)_sys_getpgid$/,
  z_kretprobe: /^at the return of function __(x64|arm64)_sys_getpgid$/,
  z_fentry: /^at the entry of function bpf_fentry_test1$/,
  z_fexit: /^at the return of function bpf_fentry_test1$/,
  z_lsm: /^at the LSM hook bpf_lsm_file_open$/,
  z_kprobe_multi: /^at 2 functions: vfs_read, vfs_write$/,
  z_xdp: /^on interface lo$/,
  z_tcx: /^on interface lo, ingress$/,
  z_cg_egress: /^in cgroup \/zoo\.[0-9]+, cgroup_inet_egress$/,
  z_nf: /^at netfilter hook ip input, priority -128$/,
};

const images = [...capturedImages(), ...(await labImages())];

eachMachine(images, (image) => {
  const hasZoo = image.answer("loader.json") !== undefined;
  test.skipIf(!hasZoo)("links of the lab's programs have the places of their sources", () => {
    using guest = openGuest({ memory: image.memory });
    const place = linkPlaces(guest);
    const names = new Map(guest.progs().map((prog) => [prog.id, printable(prog.fullName)]));
    let seen = 0;
    for (const link of guest.links()) {
      const attached = ATTACHED[names.get(link.progId) ?? ""];
      if (attached === undefined) continue;
      expect(place(link)).toMatch(attached);
      seen++;
    }
    expect(seen).toBeGreaterThan(4);
  });

  const paths = image.answer("cgroup-ids");
  test.skipIf(paths === undefined)("paths of cgroups are those in the guest's file system", () => {
    const known = new Map(
      (paths ?? "")
        .split("\n")
        .map((line) => [line.split(" ")[0] ?? "", line.replace(/^\d+ \/sys\/fs\/cgroup/, "")]),
    );
    using guest = openGuest({ memory: image.memory });
    const links = guest.links().filter(({ details }) => Number(details["cgroup_id"] ?? 0) > 0);
    for (const { details } of links)
      expect(details["cgroup_path"]).toBe(known.get(String(details["cgroup_id"])));
  });
});
