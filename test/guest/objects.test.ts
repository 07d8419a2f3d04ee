/** Programs, links, BTF objects and the scheduler of the lab's frozen machines, against what bpftool said in them. */
import { expect, test } from "bun:test";
import type { Btf } from "../../src/btf/btf.ts";
import { GuestBtfs } from "../../src/guest/bpf/btfs.ts";
import { listCgroups } from "../../src/guest/bpf/cgroup-progs.ts";
import { readFeatures } from "../../src/guest/bpf/features.ts";
import { listNetworks } from "../../src/guest/bpf/networks.ts";
import { listPerfAttachments } from "../../src/guest/bpf/perf-fds.ts";
import { listPins } from "../../src/guest/bpf/pins.ts";
import { listTokenMounts } from "../../src/guest/bpf/tokens.ts";
import { type GuestState, openGuest } from "../../src/guest/guest.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { btfJson, linkJson, progJson } from "../../src/report/bpftool.ts";
import { cgroupJson } from "../../src/report/cgroup.ts";
import { featuresJson } from "../../src/report/feature.ts";
import { type Json, stringify } from "../../src/report/json.ts";
import { netfilterLinks, networkJson, networkText } from "../../src/report/net.ts";
import { perfJson } from "../../src/report/perf.ts";
import { progPlaces } from "../../src/report/prog-places.ts";
import { structOpsDump, structOpsJson } from "../../src/report/struct-ops.ts";
import { tokenJson } from "../../src/report/token.ts";
import { utf8 } from "../../src/text.ts";
import { MapType, PROG_TYPES } from "../../src/uapi/names.ts";
import { parseExact } from "../live/bpftool.ts";
import { capturedImages } from "./captured.ts";
import { eachMachine, type LabImage, labImages, withoutBpftools } from "./images.ts";

type Printed = Readonly<Record<string, unknown>>;

/** A test against bpftool's list; skipped where the guest gave none. */
function testAgainst(
  image: LabImage,
  file: string,
  title: string,
  body: (theirs: readonly Printed[]) => void,
): void {
  const text = image.answer(file)?.trim() ?? "";
  test.skipIf(text === "")(title, () => body(withoutBpftools(parseExact(text) as Printed[])));
}

/** An object on a device, by bpftool's keys. */
type OnDevice = Readonly<Record<string, string | number>>;

/** bpftool's `net show`, whose flow dissector is no JSON; empty where the guest gave none. */
function networkAnswer(
  image: LabImage,
  file: string,
): readonly { readonly xdp: readonly OnDevice[]; readonly tc: readonly OnDevice[] }[] {
  const text = image.answer(file)?.trim() ?? "";
  if (text === "") return [];
  return JSON.parse(text.replace(/"flow_dissector":\["id":(\d+)\]/, '"flow_dissector":[{"id":$1}]'));
}

/** They are compared in holders.test.ts: an object that is held may be held by bpftool alone. */
const OF_HOLDERS: readonly string[] = ["pids", "bpf_cookie"];

const printed = (values: readonly Json[]): readonly Printed[] =>
  values.map((value) => parseExact(stringify(value)) as Printed);

/** Of each of ours what bpftool printed of it, but for the keys that `leaveOut` names of it. */
function asPrinted(
  ours: readonly Printed[],
  theirs: readonly Printed[],
  leaveOut: (theirs: Printed) => readonly string[],
): { ours: Printed[]; theirs: Printed[] } {
  const cut = (from: Printed, keys: readonly string[]): Printed =>
    Object.fromEntries(keys.map((key) => [key, from[key]]));
  const keysOf = (one: Printed): string[] =>
    Object.keys(one).filter((key) => !leaveOut(one).includes(key) && !OF_HOLDERS.includes(key));
  return {
    ours: ours.map((one, index) => cut(one, keysOf(theirs[index] ?? one))),
    theirs: theirs.map((one) => cut(one, keysOf(one))),
  };
}

const open = (image: LabImage): GuestState => openGuest({ memory: image.memory });
const COUNTERS = ["run_cnt", "run_time_ns", "recursion_misses"] as const;

/** Keys that bpftool prints as 0 of kernels which do not tell them, though they have them. */
const TOLD_SINCE: readonly (readonly [type: string, key: string, member: string])[] = [
  ["tracing", "cookie", "tracing.cookie"],
  ["tracing", "target_obj_id", "tracing.target_obj_id"],
  ["tracing", "target_btf_id", "tracing.target_btf_id"],
  ["raw_tracepoint", "cookie", "raw_tracepoint.cookie"],
  ["perf_event", "ref_ctr_offset", "perf_event.uprobe.ref_ctr_offset"],
];

function untold(btf: Btf, link: Printed): string[] {
  const info = btf.find("bpf_link_info");
  return TOLD_SINCE.filter(
    ([type, , member]) => link["type"] === type && (info === undefined || !btf.member(info, member)),
  ).map(([, key]) => key);
}

/**
 * `cgroup tree` of bpftool. Before 6.0 the kernel refuses to tell the flags of each program (`prog_attach_flags`), and
 * bpftool then lists a cgroup without its programs. Nothing is attached above the lab's cgroups: those in effect in one are
 * the ones that are attached to it.
 */
function cgroupTree(image: LabImage): { readonly tree: Printed[]; readonly hasFlags: boolean } {
  const listed = (file: string): Printed[] => parseExact(image.answer(file)!) as Printed[];
  const tree = listed("cgroup-tree.json");
  if (tree.some(({ programs }) => (programs as Printed[]).length > 0)) return { tree, hasFlags: true };
  const effective = listed("cgroup-tree-effective.json");
  return {
    tree: tree.map(({ cgroup }) => effective.find((one) => one["cgroup"] === cgroup)!),
    hasFlags: false,
  };
}

const machines = await labImages();
const images = [...machines, ...capturedImages()];
eachMachine(images, (image) => {
  testAgainst(
    image,
    "prog-show.json",
    "every attribute of every program is bpftool's, and counters only grew",
    (theirs) => {
      using guest = open(image);
      const ours = printed(guest.progs().map((prog) => progJson(prog, guest.kernel())));
      const cut = asPrinted(ours, theirs, () => COUNTERS);
      expect(cut.ours).toEqual(cut.theirs);
      for (const [index, prog] of guest.progs().entries()) {
        if (!prog.stats.ok) throw new Error(prog.stats.why.detail);
        const { count, runTimeNs, misses } = prog.stats.value;
        const before = COUNTERS.map((key) => BigInt((theirs[index]?.[key] as number | undefined) ?? 0));
        expect([count, runTimeNs, misses].every((now, at) => now >= before[at]!)).toBe(true);
        expect(PROG_TYPES[prog.type]).toBe(theirs[index]!["type"] as (typeof PROG_TYPES)[number]);
      }
      expect(guest.warnings.filter((sentence) => sentence.includes("prog_idr"))).toEqual([]);
    },
  );

  testAgainst(image, "link-show.json", "every attribute of every link is bpftool's", (theirs) => {
    using guest = open(image);
    const typeOf = (id: number): number | undefined => guest.progs().find((prog) => prog.id === id)?.type;
    const ours = printed(guest.links().map((link) => linkJson(link, typeOf)));
    const btf = guest.kernelBtf();
    if (!btf.ok) throw new Error(btf.why.detail);
    const cut = asPrinted(ours, theirs, (link) => untold(btf.value, link));
    expect(cut.ours).toEqual(cut.theirs);
    expect(guest.links().filter(({ details }) => "unreadable" in details)).toEqual([]);
  });

  testAgainst(
    image,
    "btf-show.json",
    "BTF objects are bpftool's, and every one of them can be parsed",
    (theirs) => {
      using guest = open(image);
      const ours = printed(guest.btfs().map((btf) => btfJson(btf, guest.progs(), guest.maps())));
      // bpftool lists users in the order of its own hash table.
      const sorted = (one: Printed): Printed => ({
        ...one,
        prog_ids: [...(one["prog_ids"] as number[])].sort((a, b) => a - b),
        map_ids: [...(one["map_ids"] as number[])].sort((a, b) => a - b),
      });
      const cut = asPrinted(ours.map(sorted), theirs.map(sorted), () => []);
      expect(cut.ours).toEqual(cut.theirs);
      for (const { id } of guest.btfs()) {
        const parsed = guest.btf(id);
        if (!parsed.ok) throw new Error(parsed.why.detail);
        expect(parsed.value.typeCount).toBeGreaterThan(1);
      }
      expect(guest.btf(0x7fff_ffff)).toMatchObject({ ok: false, why: { reason: "not-present" } });
    },
  );

  for (const command of ["show", "dump"] as const) {
    const theirs = image.answer(`struct_ops-${command}.json`)?.trim() ?? "";
    test.skipIf(theirs === "")(`struct_ops ${command} is bpftool's, byte for byte`, () => {
      using guest = open(image);
      const maps = guest.maps().filter(({ type }) => type === MapType.struct_ops);
      const ours =
        command === "show"
          ? maps.map((map) => structOpsJson(guest, map))
          : maps.flatMap((map) => structOpsDump(guest, map, false));
      expect(stringify(ours)).toBe(theirs);
    });
  }

  test.skipIf(image.answer("cgroup-tree.json") === undefined)(
    "what runs each program is what bpftool's listings say",
    () => {
      using guest = open(image);
      const { places, untold } = progPlaces(guest);
      // A capture that was made before there was the question knows no network namespaces.
      const hasNetworks = image.answer("net-show.json") !== undefined;
      expect(untold.filter((sentence) => hasNetworks || !sentence.includes("net_namespace_list"))).toEqual(
        [],
      );
      const mine = (by: string, key: string): string[] =>
        [...places]
          .flatMap(([id, all]) =>
            all.filter(({ json }) => json["by"] === by).map(({ json }) => `${id} ${String(json[key])}`),
          )
          .sort();
      const listed = (file: string): Printed[] => parseExact(image.answer(file)!) as Printed[];
      const links = withoutBpftools(listed("link-show.json")).filter(({ prog_id }) => prog_id !== 0);
      const ofLinks = links.flatMap(({ id, prog_id }) => (prog_id === undefined ? [] : [`${prog_id} ${id}`]));
      expect(mine("link", "id")).toEqual(ofLinks.sort());
      const ofCgroups = cgroupTree(image).tree.flatMap(({ programs }) =>
        (programs as Printed[]).map(({ id, attach_type }) => `${id} ${attach_type}`),
      );
      expect(mine("cgroup", "attach_type")).toEqual(ofCgroups.sort());
      const interfaces = ["net-show.json", "net-show-other.json"]
        .flatMap((file) => networkAnswer(image, file))
        .flatMap(({ xdp, tc }) => [
          ...xdp.map(({ devname, id }) => `${id} ${devname}, xdp`),
          ...tc.map(({ devname, kind, id, prog_id, link_id }) =>
            link_id ? "" : `${prog_id ?? id} ${devname}, ${kind}`,
          ),
        ]);
      const ofLinksToo = interfaces.filter((one) => one !== "" && !/^\d+ lo, xdp$/.test(one));
      // The zoo's XDP program has a link in one namespace and none in the other.
      expect(
        [...places]
          .flatMap(([id, all]) =>
            all
              .filter(({ json }) => json["by"] === "interface")
              .map(({ json }) => `${id} ${json["devname"]}, ${json["kind"]}`.replace("xdp generic", "xdp")),
          )
          .sort(),
      ).toEqual([...ofLinksToo, ...new Set(interfaces.filter((one) => /^\d+ lo, xdp$/.test(one)))].sort());
      const callbacks = image.answer("struct_ops-dump.json")!.matchAll(/"(\w+)":"[^"]*\/prog_id:(\d+)"/g);
      expect(mine("struct_ops", "member")).toEqual(
        [...callbacks].map(([, name, id]) => `${id} ${name}`).sort(),
      );
      const arrays = listed("map-show.json").filter(({ type }) => type === "prog_array");
      const elements = arrays.flatMap(({ id }) => {
        const dump = image.answer(`map-dump/${id}.json`) ?? "[]";
        return (JSON.parse(dump) as { key: string[]; value: string[] }[]).map(
          ({ key, value }) => `${Number(value[0])} ${Number(key[0])}`,
        );
      });
      expect(elements.length).toBeGreaterThan(0);
      expect(mine("prog_array", "key")).toEqual(elements.sort());
    },
  );

  for (const [file, kind] of [
    ["map-pins.json", "map"],
    ["prog-pins.json", "program"],
    ["link-pins.json", "link"],
  ] as const)
    testAgainst(image, file, `every pinned ${kind} has the paths of bpftool`, (theirs) => {
      const wanted = theirs.flatMap(({ id, pinned = [] }) =>
        (pinned as string[]).map((path) => `${id} ${path}`),
      );
      expect(wanted.length).toBeGreaterThan(0);
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const problems: string[] = [];
      const pins = listPins(kernel, kind, (sentence) => problems.push(sentence));
      const mine = [...pins].flatMap(([id, paths]) => paths.map((path) => `${id} ${utf8(path)}`));
      expect([mine.sort(), problems]).toEqual([wanted.sort(), []]);
    });

  test.skipIf(image.answer("net-show.json") === undefined)(
    "network devices of both namespaces have the programs of bpftool, text and JSON",
    () => {
      using guest = open(image);
      const networks = guest.networks();
      const netfilter = netfilterLinks(guest.links());
      const inode = (file: string): number => Number(image.answer(file));
      const numbers = [inode("net-inode"), inode("net-other-inode")];
      expect(networks.map(({ netnsIno }) => netnsIno)).toEqual(numbers);
      for (const [index, file] of ["net-show.json", "net-show-other.json"].entries()) {
        const theirs = networkAnswer(image, file);
        const mine = stringify([networkJson(guest, networks[index]!, netfilter)]);
        expect(mine).toBe(stringify([{ ...theirs[0]!, netns_ino: numbers[index]! }] as unknown as Json));
      }
      expect(`${networkText(guest, networks[0]!, netfilter)}\n`).toBe(image.answer("net-show.txt")!);
      const hasFilters = networkAnswer(image, "net-show.json")[0]!.tc.some(
        ({ kind }) => kind === "clsact/egress",
      );
      expect(hasFilters).toBe(image.answer("modules")!.includes("cls_bpf"));
      expect(guest.networks("lo").length).toBe(2);
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const btfs = new GuestBtfs(kernel, () => {});
      expect(() => listNetworks(kernel, btfs, "lp", () => {})).toThrow('there is no network device "lp"');
      expect(guest.warnings.filter((sentence) => /filters|network/.test(sentence))).toEqual([]);
    },
  );

  test.skipIf(image.answer("feature-probe.json") === undefined)(
    "sysctls, program types and map types are those that bpftool finds by trying",
    () => {
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      type Probed = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
      const theirs = JSON.parse(image.answer("feature-probe.json")!) as Probed;
      const features = readFeatures(kernel);
      const mine = JSON.parse(stringify(featuresJson(features))) as Probed;
      // Before 6.9 bpftool's try is refused for a field that these kernels do not know.
      const { have_struct_ops_map_type: told, ...mapTypes } = mine["map_types"]!;
      const { have_struct_ops_map_type: tried, ...theirMapTypes } = theirs["map_types"]!;
      expect([told, mapTypes]).toEqual([true, theirMapTypes]);
      if (features.mapTypes[MapType.arena] === true) expect(tried).toBe(true);
      for (const section of ["system_config", "syscall_config", "program_types"])
        expect([section, mine[section]]).toEqual([section, theirs[section]]);
      const callable = new Set(Object.values(theirs["helpers"]!).flat());
      const known = mine["kernel_helpers"] as unknown as readonly string[];
      expect([...callable].filter((name) => !known.includes(name as string))).toEqual([]);
      expect(features.untold.join()).toContain("CONFIG_IKCONFIG");
    },
  );

  test.skipIf(image.answer("token-list.json") === undefined)("tokens' file systems are bpftool's", () => {
    using kernel = openKernel({ memory: [{ path: image.memory }] });
    const problems: string[] = [];
    const mounts = listTokenMounts(kernel, (sentence) => problems.push(sentence));
    expect(stringify(mounts.map(tokenJson))).toBe(image.answer("token-list.json")!.trim());
    expect(problems).toEqual([]);
  });

  testAgainst(image, "perf-show.json", "descriptors on perf events are bpftool's", (theirs) => {
    using kernel = openKernel({ memory: [{ path: image.memory }] });
    expect(theirs.length).toBeGreaterThan(5);
    expect(printed(listPerfAttachments(kernel).map(perfJson))).toEqual(theirs);
  });

  for (const [file, isEffective] of [
    ["cgroup-tree.json", false],
    ["cgroup-tree-effective.json", true],
  ] as const)
    testAgainst(
      image,
      file,
      `cgroups have the ${isEffective ? "effective " : ""}programs of bpftool`,
      (effective) => {
        const { tree, hasFlags } = cgroupTree(image);
        const theirs = isEffective ? effective : tree;
        using guest = open(image);
        const all = guest.cgroups({ path: undefined, isTree: true, isEffective });
        const byPath = (a: Printed, b: Printed): number =>
          String(a["cgroup"]) < String(b["cgroup"]) ? -1 : 1;
        // bpftool has the name of type 0, "", for programs that hook no function, until it has met one that does.
        const wanted = theirs.map(({ cgroup, programs }) => ({
          cgroup: String(cgroup)
            .replace(/^\/sys\/fs\/cgroup(?=\/)/, "")
            .replace(/^\/sys\/fs\/cgroup$/, "/"),
          programs: (programs as Printed[]).map(({ attach_btf_name, ...prog }) =>
            attach_btf_name === "" || attach_btf_name === undefined ? prog : { ...prog, attach_btf_name },
          ),
        }));
        expect(wanted.length).toBeGreaterThan(0);
        const ours = printed(all.map((one) => cgroupJson(guest, one))).map(({ cgroup, programs }) => ({
          cgroup: String(cgroup),
          programs: (programs as Printed[]).map(({ attach_flags, ...prog }) =>
            attach_flags === undefined || !hasFlags ? prog : { ...prog, attach_flags },
          ),
        }));
        expect(ours.sort(byPath)).toEqual(wanted.sort(byPath));
      },
    );

  test.skipIf(image.answer("cgroup-tree.json") === undefined)(
    "a cgroup is found by its path, or its near misses are named",
    () => {
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const ask = (path: string): string[] =>
        listCgroups(kernel, { path, isTree: false, isEffective: false }, () => {}).map((one) =>
          JSON.stringify([utf8(one.path), one.level, one.progs.map(({ flags }) => flags)]),
        );
      for (const path of ["/unlinked", "/unlinked/", "/sys/fs/cgroup/unlinked"])
        expect(ask(path)).toEqual(['["/unlinked",0,[0,1]]']);
      expect(ask("/")).toEqual(['["/",0,[]]']);
      expect(() => ask("/unlink")).toThrow(/no cgroup "\/unlink"/);
    },
  );

  test("the scheduler is the one that sysfs names", () => {
    using guest = open(image);
    const state = image.answer("sched_ext/state")?.trim() ?? "";
    const name = image.answer("sched_ext/root/ops")?.trim() ?? "";
    const active = guest.activeScheduler();
    if (name === "") return expect(active).toBeUndefined();
    expect(active).toMatchObject({ opsName: name, state });
    // bpftool prints a map's attributes, then its value, with a callback as "name/prog_id:7".
    const dump = JSON.parse(image.answer("struct_ops-dump.json")!) as Printed[];
    const at = dump.findIndex((one) => JSON.stringify(one).includes(`"name":"${name}"`));
    const [info, value] = [dump[at - 1] as { bpf_map_info: { id: number } }, dump[at]];
    const ids = [...JSON.stringify(value).matchAll(/prog_id:(\d+)/g)].map(([, id]) => Number(id));
    expect(active?.progIds).toEqual(ids.sort((a, b) => a - b));
    const listed = parseExact(image.answer("prog-show.json") ?? "[]") as Printed[];
    const progs = listed.filter((prog) => ids.includes(prog["id"] as number));
    const used = progs.flatMap((prog) => (prog["map_ids"] as number[] | undefined) ?? []);
    const all = new Set([...used, info.bpf_map_info.id]);
    expect(active?.mapIds).toEqual([...all].sort((a, b) => a - b));
  });
});

// Captures have no symbols of modules.
eachMachine(machines, (image) => {
  const text = image.answer("kallsyms-loaded");
  test.skipIf(text === undefined)("modules' and programs' symbols have the names of /proc/kallsyms", () => {
    using guest = open(image);
    const names = new Map<bigint, string[]>();
    for (const [, address, name, module] of text!.matchAll(/^([0-9a-f]+) \w (\S+)\s+\[(\w+)\]$/gm)) {
      // Trampolines, dispatchers and probes' slots have symbols, and are neither.
      if (module!.startsWith("__builtin__") || (module === "bpf" && !name!.startsWith("bpf_prog_"))) continue;
      const at = BigInt(`0x${address}`);
      names.set(at, [...(names.get(at) ?? []), `${name} [${module}]`]);
    }
    expect(names.size).toBeGreaterThan(10);
    for (const [at, aliases] of names) expect(aliases).toContain(guest.symbolAt(at) ?? "no symbol");
    expect(guest.symbolAt(0n)).toBeUndefined();
    const [at] = names.keys();
    expect(guest.readKernel(at!, 16)).toMatchObject({ ok: true, value: { length: 16 } });
    expect(guest.readKernel(0x1000n, 16)).toMatchObject({ ok: false, why: { reason: "not-present" } });
  });
});
