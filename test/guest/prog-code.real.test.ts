/** `prog dump xlated` of the lab's frozen machines: what bpftool printed in them, byte for byte. */
import { expect } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openGuest } from "../../src/guest/guest.ts";
import { NO_TARGETS } from "../../src/prog-code.ts";
import { Output } from "../../src/report/output.ts";
import { Xlated, xlatedJson } from "../../src/report/xlated.ts";
import { labImages, testEachMachine } from "./images.ts";

const images = (await labImages()).filter((image) => image.answer("prog-dump/done") !== undefined);

testEachMachine(images, "every program's instructions, with opcodes and lines: %s", (image) => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-xlated-"));
  const file = join(folder, "json");
  using guest = openGuest({ memory: image.memory });
  let compared = 0;
  const different: string[] = [];
  for (const prog of guest.progs()) {
    const theirs = image.answer(`prog-dump/${prog.id}.json`) ?? "";
    // bpftool's own programs were gone when it was asked for them.
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
    const fd = openSync(file, "w");
    const out = new Output(fd);
    xlatedJson(out, xlated, { opcodes: true, linum: true }, "");
    out.line();
    out.flush();
    closeSync(fd);
    const mine = readFileSync(file, "utf8");
    if (mine !== theirs) different.push(`program ${prog.id}: ${firstDifference(mine, theirs)}`);
    compared++;
  }
  rmSync(folder, { recursive: true });
  expect(different).toEqual([]);
  expect(compared).toBeGreaterThan(20);
});

function firstDifference(mine: string, theirs: string): string {
  let at = 0;
  while (at < mine.length && mine[at] === theirs[at]) at++;
  return `${mine.slice(Math.max(0, at - 80), at + 80)} | ${theirs.slice(Math.max(0, at - 80), at + 80)}`;
}
