/** Maps of frozen machines, compared with bpftool in them and with the program that filled them. */
import { expect, test } from "bun:test";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { capturedImages } from "./captured.ts";
import { eachMachine, labImages } from "./images.ts";
import { Comparison } from "./support/frozen.ts";

const images = [...(await labImages()), ...capturedImages()].filter(
  (image) => image.answer("map-show.json") !== undefined,
);

eachMachine(images, (image) => {
  test("every attribute of every map, and every element that does not change, equals bpftool's and the loader's", () => {
    using kernel = openKernel({ memory: [{ path: image.memory }] });
    const { differences, tallies } = new Comparison(image, kernel);
    expect(differences).toEqual([]);
    expect(tallies.size).toBeGreaterThan(0);
  }, 60_000);
});

test("an answer with fewer elements, or with a lower bound, is a difference", () => {
  const [image] = capturedImages();
  const loaded = JSON.parse(image!.answer("loader.json")!);
  const idOf = (name: string): number => loaded.maps.find((map: { name: string }) => map.name === name).id;
  const packets = idOf("z_packets");
  const lru = idOf("z_moving_lru");
  const lower = image!.answer("loader.json")!.replace('"entries_max":64', '"entries_max":1');
  const changed: Record<string, string> = { [`map-dump/${packets}.json`]: "[]", "loader.json": lower };
  using kernel = openKernel({ memory: [{ path: image!.memory }] });
  const answer = (name: string): string | undefined => changed[name] ?? image!.answer(name);
  const { differences } = new Comparison({ ...image!, answer }, kernel);
  const of = (id: number): string[] => differences.filter((text) => text.startsWith(`map ${id}`));
  expect(of(packets)).toHaveLength(8);
  expect(of(packets)[0]).toEndWith("came after undefined");
  expect(of(lru)).toEqual([expect.stringMatching(/has \d+ elements$/)]);
  expect(differences).toHaveLength(9);
});
