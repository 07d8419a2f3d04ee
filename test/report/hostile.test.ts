/** Hostile names in text and JSON. */
import { describe, expect, test } from "bun:test";
import { linkJson, mapJson, nameText } from "../../src/report/bpftool.ts";
import { stringify } from "../../src/report/json.ts";
import { linkPlaces } from "../../src/report/link-place.ts";
import { linkText, mapText } from "../../src/report/text.ts";
import type { LinkInfo, MapInfo } from "../../src/state.ts";
import { unreadable } from "../../src/state.ts";
import { escapeText, printable } from "../../src/text.ts";
import { LinkType } from "../../src/uapi/names.ts";
import { mapInfo } from "./support/map-info.ts";

/** Control characters and characters that change the order of the text: C0 except the end of a line, DEL, C1, bidi, BOM. */
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/u;

const HOSTILE: readonly Uint8Array[] = [
  Buffer.from("\u001b[31mred\u001b[0m"),
  Buffer.from("\u001b]0;title\u0007"),
  Buffer.from("two\nlines\r"),
  Buffer.from("\u009b31m"), // CSI in one C1 character
  Buffer.from("a\u202eb\u2066c"),
  Buffer.from("\ufeffbom"),
  Buffer.from('quote"back\\slash'),
  Uint8Array.of(0xff, 0xfe, 0x41),
  Uint8Array.of(0xc3, 0x28),
  Uint8Array.of(0xed, 0xa0, 0x80), // a surrogate
  Uint8Array.of(0x9b, 0x33, 0x31, 0x6d), // CSI as a lone byte
  Buffer.from("größe 日本 🙂"),
];

const mapNamed = (name: Uint8Array): MapInfo => mapInfo({ name });

describe("a hostile name", () => {
  for (const name of HOSTILE) {
    test(`${JSON.stringify(printable(name))} has no control characters in the output`, () => {
      const text = printable(name);
      expect(text).not.toMatch(UNSAFE);
      expect(mapText(mapNamed(name)).replace(/\n\t/g, "")).not.toMatch(UNSAFE);
      for (const indent of ["", "  "]) {
        const json = stringify(mapJson(mapNamed(name)), indent);
        expect(json.replaceAll("\n", "")).not.toMatch(UNSAFE);
        expect(JSON.parse(json)).toMatchObject({ name: nameText(name) });
      }
    });
  }

  test("of valid UTF-8 is unchanged in JSON, and of plain letters unchanged in text", () => {
    expect(printable(Buffer.from("größe 日本 🙂"))).toBe("größe 日本 🙂");
    expect(printable(Buffer.from("scx_simple.bss"))).toBe("scx_simple.bss");
    expect(printable(Buffer.from("\ufeffbom"))).toBe("\\u{feff}bom");
    for (const name of HOSTILE.slice(0, 7)) expect(Buffer.from(nameText(name))).toEqual(Buffer.from(name));
  });

  test("in text differs from a name that only looks escaped", () => {
    expect(printable(Uint8Array.of(0x1b))).toBe("\\x1b");
    expect(printable(Buffer.from("\\x1b"))).toBe("\\\\x1b");
    expect(printable(Uint8Array.of(0xff))).toBe("\\xff");
    expect(escapeText("\u202e")).toBe("\\u{202e}");
  });

  test("of random bytes is printable, and different names stay different", () => {
    let seed = 1;
    const byte = (): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return seed >>> 24;
    };
    const seen = new Map<string, string>();
    for (let n = 0; n < 5000; n++) {
      const name = Uint8Array.from({ length: 1 + (byte() % 15) }, byte);
      const text = printable(name);
      expect(text).not.toMatch(UNSAFE);
      const hex = Buffer.from(name).toString("hex");
      expect(seen.get(text) ?? hex).toBe(hex);
      seen.set(text, hex);
      expect(stringify(nameText(name))).not.toMatch(UNSAFE);
    }
  });

  test("in a link's strings is escaped in text and JSON", () => {
    for (const name of HOSTILE) {
      const link: LinkInfo = {
        id: 1,
        type: LinkType.perf_event,
        progId: 2,
        details: { file: nameText(name), list: [{ inner: nameText(name) }] },
      };
      const place = linkPlaces({
        progById: () => undefined,
        mapById: () => undefined,
        btf: () => unreadable("unsupported", ""),
        kernelBtf: () => unreadable("unsupported", ""),
      });
      expect(place(link)).not.toBe("");
      expect(linkText(link, () => undefined, place(link)).replace(/\n\t/g, "")).not.toMatch(UNSAFE);
      expect(stringify(linkJson(link, () => undefined))).not.toMatch(UNSAFE);
    }
  });
});

describe("JSON", () => {
  test("has exact integers, and leaves undefined members out", () => {
    expect(stringify({ a: 2n ** 64n - 1n, b: undefined, c: [1, -1n, null, true], d: {}, e: [] })).toBe(
      '{"a":18446744073709551615,"c":[1,-1,null,true],"d":{},"e":[]}',
    );
  });

  test("is valid even with NaN and Infinity", () => {
    expect(stringify([Number.NaN, Number.POSITIVE_INFINITY, -0, 1e300])).toBe("[null,null,0,1e+300]");
  });

  test("with line breaks equals JSON.stringify's", () => {
    const value = { a: [1, { b: "x\u001b" }], c: {}, d: [[]] };
    expect(stringify(value, "  ")).toBe(JSON.stringify(value, null, 2));
    expect(stringify(value)).toBe(JSON.stringify(value));
  });

  test("escapes keys as it escapes values", () => {
    expect(stringify({ "a\u009b\u202e": 1 })).toBe('{"a\\u009b\\u202e":1}');
  });
});
