/**
 * bpftool's `formatted` of every element that it dumped in a guest, compared with ktstr's for the same bytes and the types in
 * the frozen memory. This includes maps that change.
 */
import { expect, test } from "bun:test";
import { bpftoolJson } from "../../src/btf/bpftool.ts";
import { openGuest } from "../../src/guest/guest.ts";
import { type MapTypes, typesOf } from "../../src/report/typed.ts";
import { parseExact } from "../live/bpftool.ts";
import { eachMachine, type LabImage, labImages } from "./images.ts";

interface Element {
  readonly key: readonly string[];
  readonly value?: readonly string[];
  readonly values?: readonly { readonly cpu: number; readonly value: readonly string[] }[];
  readonly formatted?: {
    readonly key?: unknown;
    readonly value?: unknown;
    readonly values?: readonly { value: unknown }[];
  };
}

const bytesOf = (hex: readonly string[]): Uint8Array => Uint8Array.from(hex, Number);

/** bpftool prints `(unsupported-kind)` for a float, which is not valid JSON: the comparison ends there. */
const UNSUPPORTED = /\(unsupported-kind\)?/;

function ktstrJson(types: MapTypes, element: Element): unknown {
  const render = (type: MapTypes["value"], hex: readonly string[]): unknown =>
    parseExact(bpftoolJson(type.btf, type.id, bytesOf(hex)));
  const key = types.key === undefined ? {} : { key: render(types.key, element.key) };
  if (element.values === undefined) return { ...key, value: render(types.value, element.value ?? []) };
  return {
    ...key,
    values: element.values.map(({ cpu, value }) => ({ cpu, value: render(types.value, value) })),
  };
}

function compare(image: LabImage): {
  elements: number;
  maps: number;
  differences: string[];
  unread: string[];
} {
  using guest = openGuest({ memory: image.memory });
  const differences: string[] = [];
  const unread: string[] = [];
  let elements = 0;
  let maps = 0;
  for (const map of guest.maps()) {
    const text = image.answer(`map-dump/${map.id}.json`);
    if (text === undefined || !text.includes('"formatted"')) continue;
    const name = Buffer.from(map.name).toString();
    if (UNSUPPORTED.test(text)) {
      unread.push(name);
      continue;
    }
    const types = typesOf(guest, map);
    if (types === undefined) {
      differences.push(`${name}: bpftool has types, we have none`);
      continue;
    }
    maps++;
    for (const element of parseExact(text) as Element[]) {
      if (element.formatted === undefined) continue;
      elements++;
      const mine = JSON.stringify(ktstrJson(types, element), exact);
      const theirs = JSON.stringify(element.formatted, exact);
      // A bool of 2 is not valid in C: bpftool's result depends on its compiler; on arm64 it is false.
      if (name === "z_bool" && guest.kernel().machine === "aarch64") continue;
      if (mine !== theirs)
        differences.push(`${name}: ${mine.slice(0, 200)}, bpftool ${theirs.slice(0, 200)}`);
    }
  }
  return { elements, maps, differences, unread };
}

const exact = (_: string, value: unknown): unknown => (typeof value === "bigint" ? `${value}n` : value);

const images = (await labImages()).filter((image) => image.answer("map-show.json") !== undefined);

eachMachine(images, (image) => {
  test("every typed element is formatted as in bpftool, with the same keys in the same order", () => {
    const { elements, maps, differences, unread } = compare(image);
    expect(differences).toEqual([]);
    expect(elements).toBeGreaterThan(0);
    console.log(
      `${image.name}: ${elements} elements of ${maps} maps; not JSON in bpftool: ${unread.join(", ")}`,
    );
  });
});
