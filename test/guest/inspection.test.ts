/** Validates `inspect --json` of frozen machines against its published schema. */
import { expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { buildInspection } from "../../src/report/inspection.ts";
import { inspectionJson } from "../../src/report/inspection-json.ts";
import { stringify } from "../../src/report/json.ts";
import { isHashMap, isPerCpuHashMap } from "../../src/uapi/names.ts";
import { inspectionProblems } from "../report/schema.ts";
import { eachMachine, labImages } from "./images.ts";

const images = await labImages();

eachMachine(images, (image) => {
  test("the report follows the schema, and has every map, program and link that bpftool listed", () => {
    using guest = openGuest({ memory: image.memory });
    const report = JSON.parse(stringify(inspectionJson(buildInspection(guest, 8))));
    expect(inspectionProblems(report)).toEqual([]);
    for (const [list, answer] of [
      [report.maps, "map-show.json"],
      [report.programs, "prog-show.json"],
      [report.links, "link-show.json"],
    ]) {
      const theirs = JSON.parse(image.answer(answer) ?? "[]") as { id: number }[];
      expect(list.map((object: { id: number }) => object.id)).toEqual(theirs.map(({ id }) => id));
    }
  });

  test("each program has its links of bpftool's list, and members of struct_ops maps", () => {
    using guest = openGuest({ memory: image.memory });
    const { programs } = JSON.parse(stringify(inspectionJson(buildInspection(guest, 1)))) as {
      programs: { id: number; attached: { by: string; id?: number; member?: string }[] }[];
    };
    const theirs = JSON.parse(image.answer("link-show.json") ?? "[]") as { id: number; prog_id?: number }[];
    const links = theirs.filter(({ prog_id }) => prog_id !== undefined && prog_id !== 0);
    for (const { id, prog_id } of links)
      expect(programs.find((one) => one.id === prog_id)?.attached).toContainEqual(
        expect.objectContaining({ by: "link", id }),
      );
    expect(links.length).toBeGreaterThan(3);
  });

  test("the number of elements of an array is bpftool's, even if few of them are shown", () => {
    using guest = openGuest({ memory: image.memory });
    const { maps } = buildInspection(guest, 3);
    const theirs: { id: number; type: string; max_entries: number }[] = JSON.parse(
      image.answer("map-show.json") ?? "[]",
    );
    let long = 0;
    for (const { id, type, max_entries: count } of theirs) {
      if (type !== "array" && type !== "percpu_array") continue;
      const { sample } = maps.find(({ info }) => info.id === id)!;
      expect([id, sample.count, sample.countIsWhole, sample.problem]).toEqual([id, count, true, ""]);
      expect(sample.entries.length).toBe(Math.min(count, 3));
      if (count > 3) long++;
    }
    expect(long).toBeGreaterThan(0);
  });

  test("the number of entries of a hash is the kernel's own count, even if few of them are shown", () => {
    using guest = openGuest({ memory: image.memory });
    const { maps } = buildInspection(guest, 1);
    let counted = 0;
    for (const { info, sample } of maps) {
      const contents = guest.contents(info);
      if (contents.kind !== "entries" || contents.count === undefined) continue;
      if (isHashMap(info.type) || isPerCpuHashMap(info.type)) counted++;
      let walked = 0;
      while (contents.cursor.next()) walked++;
      expect([info.id, contents.count, sample.count]).toEqual([info.id, walked, walked]);
    }
    // `bpf_map.elem_count` exists since 6.6.
    expect(counted > 0).toBe(!/^(5\.10|6\.1)\./.test(guest.kernel().release));
  });
});
