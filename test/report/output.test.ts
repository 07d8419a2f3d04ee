/** The buffer of standard output. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Output } from "../../src/report/output.ts";

describe("the file has exactly the written text", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-output-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** Returns the text of the file after `write`. */
  function written(write: (out: Output) => void): string {
    const path = join(folder, "out");
    const fd = openSync(path, "w");
    try {
      const out = new Output(fd);
      write(out);
      out.flush();
    } finally {
      closeSync(fd);
    }
    return readFileSync(path, "utf8");
  }

  const bytes = Uint8Array.from({ length: 70_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff);
  const digits = (from: Uint8Array): string[] => [...from].map((byte) => byte.toString(16).padStart(2, "0"));
  const jsonHex = (from: Uint8Array): string => JSON.stringify(digits(from).map((hex) => `0x${hex}`));

  // Lengths around zero, one, a piece (8,192) and the buffer.
  for (const length of [0, 1, 2, 8, 8191, 8192, 8193, 16_384, 70_000]) {
    test(`${length} bytes in hexadecimal, as text and as JSON`, () => {
      const part = bytes.subarray(3, 3 + length);
      expect(written((out) => out.hex(bytes, 3, part.length).text("|"))).toBe(`${digits(part).join(" ")}|`);
      expect(written((out) => out.jsonHex(bytes, 3, part.length).text("|"))).toBe(`${jsonHex(part)}|`);
    });
  }

  test("text of any length and script, across the end of the buffer", () => {
    const texts = [
      "",
      "a",
      ",",
      '{"key":',
      "exactly sixteen!",
      "seventeen letters",
      "é",
      "x🙂",
      "日本".repeat(9),
    ];
    let seed = 7;
    const next = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    const pieces: string[] = [];
    const found = written((out) => {
      for (let count = 0; count < 60_000; count++) {
        const text = texts[next(texts.length)] as string;
        const length = next(4);
        out.text(text).hex(bytes, count, length);
        pieces.push(text, digits(bytes.subarray(count, count + length)).join(" "));
      }
      out.text("long ".repeat(100_000));
      pieces.push("long ".repeat(100_000));
    });
    expect(found === pieces.join("")).toBe(true);
  });
});
