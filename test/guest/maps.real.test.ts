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
