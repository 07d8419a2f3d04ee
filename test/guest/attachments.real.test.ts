/** Attachments of programs and paths of pinned objects in the lab's frozen machines, compared with bpftool's answers in them. */
import { expect, test } from "bun:test";
import { GuestBtfs } from "../../src/guest/bpf/btfs.ts";
import { listCgroups } from "../../src/guest/bpf/cgroup-progs.ts";
import { listNetworks } from "../../src/guest/bpf/networks.ts";
import { listPerfAttachments } from "../../src/guest/bpf/perf-fds.ts";
import { listPins } from "../../src/guest/bpf/pins.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { openFiles } from "../../src/guest/kernel/open-files.ts";
import { cgroupJson } from "../../src/report/cgroup.ts";
import { type Json, stringify } from "../../src/report/json.ts";
import { netfilterLinks, networkJson, networkText } from "../../src/report/net.ts";
import { perfJson } from "../../src/report/perf.ts";
import { progPlaces } from "../../src/report/prog-places.ts";
import { utf8 } from "../../src/text.ts";
import { parseExact } from "../live/bpftool.ts";
import { capturedImages } from "./captured.ts";
import { eachMachine, type LabImage, labImages, withoutBpftools } from "./images.ts";
import { open, type Printed, printed, testAgainst } from "./support/answers.ts";

/** An object on a device, with bpftool's keys. */
type OnDevice = Readonly<Record<string, string | number>>;

/** Returns bpftool's `net show`, whose flow dissector is not valid JSON; empty if the guest gave none. */
function networkAnswer(
  image: LabImage,
  file: string,
): readonly { readonly xdp: readonly OnDevice[]; readonly tc: readonly OnDevice[] }[] {
  const text = image.answer(file)?.trim() ?? "";
  if (text === "") return [];
  return JSON.parse(text.replace(/"flow_dissector":\["id":(\d+)\]/, '"flow_dissector":[{"id":$1}]'));
}

/**
 * Returns bpftool's `cgroup tree`. Before 6.0 the kernel does not return the flags of each program (`prog_attach_flags`), and
 * bpftool lists a cgroup without its programs. Nothing is attached above the lab's cgroups, so the effective programs of a
 * cgroup are those attached to it.
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

eachMachine([...(await labImages()), ...capturedImages()], (image) => {
  test.skipIf(image.answer("cgroup-tree.json") === undefined)(
    "what runs each program equals bpftool's listings",
    () => {
      using guest = open(image);
      const { places, problems } = progPlaces(guest);
      // A capture that was made before this query existed has no network namespaces.
      const hasNetworks = image.answer("net-show.json") !== undefined;
      expect(problems.filter((sentence) => hasNetworks || !sentence.includes("net_namespace_list"))).toEqual(
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
      // The zoo's XDP program has a link in one namespace, and none in the other.
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

  testAgainst(image, "perf-show.json", "descriptors on perf events are equal to bpftool's", (theirs) => {
    using kernel = openKernel({ memory: [{ path: image.memory }] });
    expect(theirs.length).toBeGreaterThan(5);
    expect(printed(listPerfAttachments(kernel, openFiles(kernel)).map(perfJson))).toEqual(theirs);
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
        // For programs that hook no function bpftool has the name of type 0, "", until it has listed one that does.
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
    "a cgroup is found by its path, and the error for a wrong path suggests similar ones",
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
});
