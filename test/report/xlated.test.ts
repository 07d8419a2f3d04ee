/** Instructions of every code, with numbers at their limits: the text that is written as bytes equals the disassembler's. Names are escaped. */
import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProgCode } from "../../src/prog-code.ts";
import { Output } from "../../src/report/output.ts";
import { Xlated, xlatedJson, xlatedText } from "../../src/report/xlated.ts";

const STYLE = { opcodes: false, linum: false };

function printed(xlated: Xlated, print: typeof xlatedText | typeof xlatedJson): string {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-xlated-"));
  const path = join(folder, "out");
  const fd = openSync(path, "w");
  const out = new Output(fd);
  print(out, xlated, STYLE, "");
  out.flush();
  closeSync(fd);
  const text = readFileSync(path, "utf8");
  rmSync(folder, { recursive: true });
  return text;
}

function programOf(
  insns: readonly (readonly [code: number, registers: number, offset: number, immediate: number])[],
): ProgCode {
  const bytes = new Uint8Array(8 * insns.length);
  const view = new DataView(bytes.buffer);
  for (const [index, [code, registers, offset, immediate]] of insns.entries()) {
    view.setUint8(8 * index, code);
    view.setUint8(8 * index + 1, registers);
    view.setInt16(8 * index + 2, offset, true);
    view.setInt32(8 * index + 4, immediate, true);
  }
  return {
    insns: bytes,
    functions: [],
    lines: new Uint32Array(),
    lineAddresses: [],
    functionAddresses: [],
    functionCount: 1,
  };
}

const OFFSETS = [0, 1, -1, 8, 16, 32, 9, 10, 99, 0x1357, 32767, -32768];
const IMMEDIATES = [0, 1, -1, 9, 10, 255, 0x0abcdef3, 2 ** 31 - 1, -(2 ** 31)];

test("every code, with each offset and immediate", () => {
  const insns = Array.from({ length: 256 }, (_, code) => code)
    // Without the code of 16-byte instructions, whose second slot is not printed.
    .filter((code) => code !== 0x18)
    .flatMap((code) =>
      [0x00, 0xa1, 0x12].flatMap((registers) =>
        OFFSETS.flatMap((offset) =>
          IMMEDIATES.map((immediate) => [code, registers, offset, immediate] as const),
        ),
      ),
    );
  const xlated = new Xlated(programOf(insns), { base: 0n, names: new Map() }, undefined);
  const lines = insns.map((_, index) => `${String(index).padStart(4)}: ${xlated.text(index)}\n`);
  expect(printed(xlated, xlatedText)).toBe(lines.join(""));
  const json = JSON.parse(printed(xlated, xlatedJson)) as { disasm: string }[];
  expect(json.map(({ disasm }) => disasm)).toEqual(insns.map((_, index) => xlated.text(index)));
});

test("names of called functions are escaped, for every code of a call", () => {
  const names = new Map([[0x8000n, '\u001b[2J"']]);
  let named = 0;
  for (const code of [0x85, 0x8d, 0x86, 0x8e]) {
    const xlated = new Xlated(programOf([[code, 0, 0, 0x7000]]), { base: 0x1000n, names }, undefined);
    if (!xlated.text(0).includes("\u001b")) continue;
    named++;
    expect(printed(xlated, xlatedText)).not.toContain("\u001b");
    expect(JSON.parse(printed(xlated, xlatedJson))).toEqual([{ disasm: xlated.text(0) }]);
  }
  expect(named).toBeGreaterThan(1);
});
