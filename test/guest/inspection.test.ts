/** `inspect --json` of frozen machines against its published schema. */
import { describe, expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { buildInspection } from "../../src/report/inspection.ts";
import { inspectionJson } from "../../src/report/inspection-json.ts";
import { stringify } from "../../src/report/json.ts";
import { inspectionProblems } from "../report/schema.ts";
import { labImages } from "./images.ts";

const images = await labImages();

describe.each(images.map((image) => [image.name, image] as const))("%s", (_, image) => {
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
});
