/** `prog dump xlated` of the lab's frozen machines, compared with bpftool's output in them, byte for byte. */
import { expect } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openGuest } from "../../src/guest/guest.ts";
import { NO_TARGETS } from "../../src/prog-code.ts";
import { Output } from "../../src/report/output.ts";
import { progPage } from "../../src/report/prog-page.ts";
import { Xlated, xlatedJson, xlatedText } from "../../src/report/xlated.ts";
import type { ProgStats } from "../../src/state.ts";
import { labImages, testEachMachine } from "./images.ts";

const images = (await labImages()).filter((image) => image.answer("prog-dump/done") !== undefined);

testEachMachine(images, "every program's instructions, with opcodes and lines: %s", (image) => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-xlated-"));
  const file = join(folder, "printed");
  using guest = openGuest({ memory: image.memory });
  let compared = 0;
  let texts = 0;
  const different: string[] = [];
  for (const prog of guest.progs()) {
    const theirs = image.answer(`prog-dump/${prog.id}.json`) ?? "";
    // bpftool's own programs no longer existed when it was asked for them.
    if (!theirs.startsWith("[")) continue;
    const code = guest.progCode(prog);
    if (!code.ok) throw new Error(`program ${prog.id}: ${code.why.detail}`);
    const btf = prog.btfId === 0 ? undefined : guest.btf(prog.btfId);
    const targets = guest.callTargets([code.value]);
    const xlated = new Xlated(
      code.value,
      targets.ok ? targets.value : NO_TARGETS,
      btf?.ok === true ? btf.value : undefined,
    );
    const printed = (print: (out: Output) => void): string => {
      const fd = openSync(file, "w");
      const out = new Output(fd);
      print(out);
      out.flush();
      closeSync(fd);
      return readFileSync(file, "utf8");
    };
    const mine = printed((out) => {
      xlatedJson(out, xlated, { opcodes: true, linum: true }, "");
      out.line();
    });
    if (mine !== theirs) different.push(`program ${prog.id}: ${firstDifference(mine, theirs)}`);
    // Answered by the guest only under KTSTR_LAB=all.
    const theirText = image.answer(`prog-dump/${prog.id}.txt`) ?? "";
    const text = printed((out) => xlatedText(out, xlated, { opcodes: false, linum: true }));
    if (theirText !== "" && text !== theirText)
      different.push(`program ${prog.id}: ${firstDifference(text, theirText)}`);
    if (theirText !== "") texts++;
    compared++;
  }
  rmSync(folder, { recursive: true });
  expect(different).toEqual([]);
  expect(compared).toBeGreaterThan(20);
  if (image.answer("prog-jited/done") !== undefined) expect(texts).toBe(compared);
});

testEachMachine(images, "every program's source lines and its costs by CPU: %s", (image) => {
  using guest = openGuest({ memory: image.memory });
  let lines = 0;
  let counted = 0;
  for (const prog of guest.progs()) {
    const { functions, cpuStats } = progPage(guest, prog);
    // Other tests compare the sums with bpftool's.
    if (prog.stats.ok && cpuStats?.ok === true) {
      const sum = (of: (one: ProgStats) => bigint): bigint =>
        cpuStats.value.reduce((total, one) => total + of(one), 0n);
      expect([sum(({ count }) => count), sum(({ runTimeNs }) => runTimeNs)]).toEqual([
        prog.stats.value.count,
        prog.stats.value.runTimeNs,
      ]);
      counted += Number(prog.stats.value.count > 0n);
    }
    const theirs = image.answer(`prog-dump/${prog.id}.json`) ?? "";
    if (!theirs.startsWith("[") || !functions.ok) continue;
    const told = (JSON.parse(theirs) as { file?: string; line_num?: number; proto?: string }[]).filter(
      ({ file }) => file !== undefined,
    );
    const places = (list: readonly { file?: string | undefined; line: number }[]): string[] =>
      [...new Set(list.map(({ file, line }) => `${file}:${line}`))].sort();
    const own = functions.value.flatMap((one) => one.lines);
    expect(places(own)).toEqual(
      places(told.map(({ file, line_num = 0 }) => ({ ...(file !== undefined && { file }), line: line_num }))),
    );
    expect(functions.value.map(({ prototype }) => prototype)).toEqual(
      (JSON.parse(theirs) as { proto?: string }[]).flatMap(({ proto }) => proto ?? []),
    );
    lines += own.length;
  }
  expect(lines).toBeGreaterThan(100);
  expect(counted).toBeGreaterThan(3);
});

function firstDifference(mine: string, theirs: string): string {
  let at = 0;
  while (at < mine.length && mine[at] === theirs[at]) at++;
  return `${mine.slice(Math.max(0, at - 80), at + 80)} | ${theirs.slice(Math.max(0, at - 80), at + 80)}`;
}
