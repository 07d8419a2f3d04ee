/** Captures with damaged programs: every dump of their code ends soon, with output or a KtstrError. */
import { afterAll, describe, expect } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { devNull, tmpdir } from "node:os";
import { join } from "node:path";
import { loadDisassembler } from "../../src/disasm/disassembler.ts";
import { captureGuest } from "../../src/guest/capture/capture.ts";
import { openGuest } from "../../src/guest/guest.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { fromBigInt, type Pointer } from "../../src/guest/memory/pointer.ts";
import { NO_TARGETS } from "../../src/prog-code.ts";
import { jitedJson, jitedText } from "../../src/report/jited.ts";
import { stringify } from "../../src/report/json.ts";
import { Output } from "../../src/report/output.ts";
import { progPage, progPageJson, progPageText } from "../../src/report/prog-page.ts";
import { PlaceNames } from "../../src/report/symbol.ts";
import { Xlated, xlatedJson, xlatedText } from "../../src/report/xlated.ts";
import { xlatedGraph } from "../../src/report/xlated-graph.ts";
import { capturedImages } from "./captured.ts";
import { labImages, testEachMachine } from "./images.ts";
import { Mutator, offsetsIn, type Place } from "./mutate.ts";

const folder = mkdtempSync(join(tmpdir(), "ktstr-code-fuzz-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ROUNDS = Number(process.env["KTSTR_FUZZ_ROUNDS"] ?? 100);
const STYLE = { opcodes: true, linum: true };

/** Pages of the programs: `struct bpf_prog` with its instructions, and the targets of `aux`'s pointers. */
function placesIn(path: string): Place[] {
  const offsetOf = offsetsIn(path);
  using guest = openGuest({ memory: path });
  using kernel = openKernel({ memory: [{ path }] });
  const { memory } = kernel;
  const places: Place[] = [];
  const add = (name: string, { hi, lo }: Pointer, length: number): void => {
    if (memory.locate(hi, lo, 0, 1) < 0) return;
    const offset = offsetOf(memory.physicalOf(hi, lo, name));
    if (offset >= 0) places.push({ name, offset, length });
  };
  const words = (at: Pointer, count: number): Pointer[] =>
    memory.locate(at.hi, at.lo, 0, 8 * count) < 0
      ? []
      : Array.from({ length: count }, (_, word) => memory.pointer(at.hi, at.lo, 8 * word, "a pointer"));
  for (const { id, address } of guest.progs()) {
    const prog = fromBigInt(address ?? 0n);
    // Its header more often than its instructions.
    for (let copies = 0; copies < 4; copies++) add(`program ${id}`, prog, 72);
    add(`program ${id}`, prog, 1024);
    for (const aux of words(prog, 9)) {
      add(`aux ${id}`, aux, 512);
      for (const part of words(aux, 64)) add(`of aux ${id}`, part, 256);
    }
  }
  return places;
}

const disassembler = await loadDisassembler("x86_64");

function readAll(path: string, out: Output): number {
  using guest = openGuest({ memory: path });
  let read = 0;
  for (const prog of guest.progs()) {
    const code = guest.progCode(prog);
    if (!code.ok) continue;
    read++;
    const btf = guest.btf(prog.btfId);
    const targets = guest.callTargets([code.value]);
    const xlated = new Xlated(
      code.value,
      targets.ok ? targets.value : NO_TARGETS,
      btf.ok ? btf.value : undefined,
    );
    xlatedText(out, xlated, STYLE);
    xlatedJson(out, xlated, STYLE, "");
    xlatedGraph(out, xlated, STYLE);
    out.text(progPageText(progPage(guest, prog)));
    out.text(stringify(progPageJson(progPage(guest, prog))));
    const machine = guest.machineCode(prog);
    if (!machine.ok) continue;
    const names = machine.value.map(() => undefined);
    const jited = { functions: machine.value, names, code: code.value, xlated, disassembler };
    jitedText(out, jited, STYLE);
    jitedJson(out, jited, STYLE, "");
  }
  // A frame in each program, for any symbol that it has now.
  const frames = guest
    .progs()
    .map(
      ({ tag, name }) =>
        `bpf_prog_${Buffer.from(tag).toString("hex")}_${Buffer.from(name).toString("latin1")}+0x10/0x20`,
    );
  new PlaceNames(guest).linesOfFrames(frames);
  return read;
}

const frozen = await labImages();
const images = (frozen.length > 0 ? frozen : capturedImages()).slice(0, 2);

describe("dumps of code in damaged captures end with output or a KtstrError", () => {
  testEachMachine(
    images,
    `%s, ${ROUNDS} rounds`,
    (image) => {
      const path = join(folder, `${image.name}-fuzz.vmcore`);
      using made = captureGuest({ memory: [{ path: image.memory }] }, (state) => {
        const codes = state.progs().map((prog) => state.progCode(prog));
        state.callTargets(codes.filter((code) => code.ok).map((code) => code.value));
        for (const prog of state.progs()) state.machineCode(prog);
        for (const { id } of state.btfs()) state.btf(id);
      });
      writeFileSync(path, Buffer.concat([...made.pieces()]));
      using mutator = new Mutator(path, placesIn(path), 20_261_128);
      const fd = openSync(devNull, "w");
      const out = new Output(fd);
      const whole = readAll(path, out);
      expect(whole).toBeGreaterThan(5);
      const outcomes = mutator.rounds(ROUNDS, () => (readAll(path, out) === whole ? "whole" : "fewer"));
      closeSync(fd);
      console.log(image.name, outcomes);
      expect(outcomes.get("fewer")).toBeGreaterThan(0);
    },
    900_000,
  );
});
