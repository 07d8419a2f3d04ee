/** Damaged and hostile BTF: reading it ends soon, with a result or a FormatError. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bpftoolJson } from "../../src/btf/bpftool.ts";
import { Btf } from "../../src/btf/btf.ts";
import { cDump } from "../../src/btf/c.ts";
import { declaration } from "../../src/btf/declare.ts";
import { valueText } from "../../src/btf/text.ts";
import { plainValue } from "../../src/btf/value.ts";
import { FormatError, KtstrError } from "../../src/errors.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BtfWriter } from "./support/encode.ts";
import { exercise, mutate } from "./support/fuzz.ts";
import { LONG_MS, liveSkipReason, run } from "./support/live.ts";
import { compileTypes } from "./support/load.ts";

const why = liveSkipReason("clang-19", "llvm-objcopy-19");
const compilerTest = test.skipIf(why !== "");
let directory = "";
let real = new Uint8Array(0);

beforeAll(() => {
  if (why !== "") return;
  directory = mkdtempSync(join(tmpdir(), "ktstr-fuzz-"));
  const object = compileTypes(directory);
  run("llvm-objcopy-19", "--dump-section", `.BTF=${object}.btf`, object);
  real = new Uint8Array(readFileSync(`${object}.btf`));
});
afterAll(() => {
  if (why === "") rmSync(directory, { recursive: true });
});

describe("damaged BTF", () => {
  compilerTest(
    "gives an answer or a KtstrError, whatever was changed",
    () => {
      const untouched = exercise(real);
      expect(untouched.parsed).toBe(true);
      let parsed = 0;
      let refused = 0;
      for (let seed = 0; seed < 600; seed++) {
        const outcome = exercise(mutate(real, seed));
        parsed += outcome.parsed ? 1 : 0;
        refused += outcome.refused;
      }
      // Both outcomes must occur; else the mutations do not test both.
      expect(parsed).toBeGreaterThan(100);
      expect(parsed).toBeLessThan(500);
      expect(refused).toBeGreaterThan(600);
    },
    LONG_MS,
  );

  compilerTest("is an error if it is cut at any length", () => {
    for (let length = 0; length < real.length; length++)
      expect(() => Btf.parse(real.subarray(0, length))).toThrow(FormatError);
  });

  compilerTest("is read, or is a FormatError, with a base that it does not belong to", () => {
    const base = Btf.parse(real);
    for (let seed = 0; seed < 60; seed++) {
      let btf: Btf;
      try {
        btf = Btf.parse(mutate(real, seed), { base });
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
        continue;
      }
      for (let id = base.typeCount; id < btf.typeCount; id++) {
        try {
          plainValue(btf, id, new Uint8Array(64));
          btf.find(btf.typeName(id));
        } catch (error) {
          expect(error).toBeInstanceOf(KtstrError);
        }
      }
    }
  });
});

describe("walks over endless types end", () => {
  const everything = (writer: BtfWriter, id: number): void => {
    const btf = Btf.parse(writer.bytes());
    const bytes = new Uint8Array(64);
    for (const show of [plainValue, bpftoolJson, valueText, declaration]) {
      try {
        show === declaration ? declaration(btf, id, "x") : (show as typeof plainValue)(btf, id, bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
    }
    try {
      for (const piece of cDump(btf, { ids: [id] })) expect(piece.length).toBeLessThan(1e9);
    } catch (error) {
      expect(error).toBeInstanceOf(FormatError);
    }
    expect(btf.member(id, "no_such_member")).toBeUndefined();
  };

  test("anonymous structs that double with each step", () => {
    const writer = new BtfWriter();
    let id = writer.int("int", 4);
    for (let n = 0; n < 40; n++)
      id = writer.struct("", 4, [
        ["", id, 0],
        ["", id, 0],
      ]);
    everything(writer, writer.struct("top", 4, [["", id, 0]]));
  });

  test("functions whose two parameters are functions", () => {
    const writer = new BtfWriter();
    let id = writer.int("int", 4);
    for (let n = 0; n < 25; n++)
      id = writer.pointer(writer.raw(BTF_KIND.FUNC_PROTO, "", 0, [0, id, 0, id], 2));
    everything(writer, writer.struct("top", 8, [["call", id, 0]]));
  });

  test("a struct of 65,535 members of its own type", () => {
    const writer = new BtfWriter();
    const own = writer.nextId;
    const members = Array.from({ length: 65_535 }, () => [0, own, 0]).flat();
    everything(writer, writer.raw(BTF_KIND.STRUCT, "", 4, members, 65_535));
  });

  test("arrays of 2^32 arrays of 2^32 empty structs", () => {
    const writer = new BtfWriter();
    const nothing = writer.struct("nothing", 0, []);
    everything(
      writer,
      writer.struct("top", 0, [["a", writer.array(writer.array(nothing, 0xffff_ffff), 0xffff_ffff), 0]]),
    );
  });

  test("typedefs and pointers in a ring, and in a chain of 100,000", () => {
    const ring = new BtfWriter();
    ring.typedef("a", 2);
    ring.raw(BTF_KIND.CONST, "", 3);
    ring.pointer(1);
    everything(ring, ring.struct("top", 8, [["a", 1, 0]]));
    const row = new BtfWriter();
    let id = 0;
    for (let n = 0; n < 100_000; n++) id = row.pointer(id);
    everything(row, row.struct("top", 8, [["p", id, 0]]));
  });

  test("100,000 types with the same long name are found", () => {
    const writer = new BtfWriter();
    const name = "n".repeat(60_000);
    const first = writer.struct(name, 4, []);
    for (let n = 0; n < 100_000; n++) writer.raw(BTF_KIND.FWD, "", 0);
    const bytes = writer.bytes();
    const view = new DataView(bytes.buffer);
    const words = view.getUint32(12, true) / 4;
    for (let word = 0; word < words; word += 3) view.setUint32(24 + 4 * word, 1, true);
    const btf = Btf.parse(bytes);
    expect(btf.find(name)).toBe(first);
    expect(btf.find(name, BTF_KIND.UNION)).toBeUndefined();
    expect(btf.find("n".repeat(59_999))).toBeUndefined();
  });
});
