/** `prog dump jited` of the lab's frozen machines, compared with the guest's bpftool, which uses binutils' disassembler. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLI, spawn } from "../live/bpftool.ts";
import { expectSameJited, noCounts } from "../report/support/jited.ts";
import { labImages, testEachMachine } from "./images.ts";

/** bpftool takes minutes in an emulated guest, so it runs only under KTSTR_LAB=all. */
const images = (await labImages()).filter((image) => image.answer("prog-jited/done") !== undefined);
const MACHINE_MS = 120_000;

/**
 * Kernels such as 5.10 list a program that has subprograms twice at one address, with its tag and with that of its first
 * function, and bpftool takes either. Returns a function that replaces all names of an address by one of them.
 */
function sameNames(kallsyms: string): (json: string) => string {
  const byAddress = Map.groupBy(kallsyms.matchAll(/^(\w+) \w (bpf_prog_\w+)/gm), ([, address]) => address);
  const aliases = [...byAddress.values()].filter((lines) => lines.length > 1);
  const first = new Map(aliases.flatMap((lines) => lines.map(([, , name = ""]) => [name, lines[0]![2]!])));
  return (json) =>
    json.replaceAll(/"(bpf_prog_\w+)"/g, (text, name) => JSON.stringify(first.get(name) ?? JSON.parse(text)));
}

testEachMachine(
  images,
  "every program's machine code, with opcodes and lines: %s",
  (image) => {
    const folder = mkdtempSync(join(tmpdir(), "ktstr-jited-"));
    try {
      const shown = JSON.parse(image.answer("prog-show.json") ?? "[]") as { readonly id: number }[];
      const asked = shown.flatMap(({ id }) => {
        // bpftool's own programs no longer existed when it was asked for them.
        const printed = image.answer(`prog-jited/${id}.json`) ?? "";
        return printed.startsWith("[") ? [{ id, printed }] : [];
      });
      const batch = join(folder, "batch");
      writeFileSync(batch, asked.map(({ id }) => `prog dump jited id ${id} opcodes linum\n`).join(""));
      const ran = spawn([process.execPath, CLI, "-j", "batch", "file", batch, "--memory", image.memory]);
      expect([ran.status, ran.err]).toEqual([0, expect.not.stringContaining("prog ")]);
      const counts = noCounts();
      const named = sameNames(image.answer("kallsyms-loaded") ?? "");
      for (const [place, { output }] of (JSON.parse(ran.out) as { readonly output: unknown }[]).entries())
        expectSameJited(named(JSON.stringify(output)), named(asked[place]!.printed), counts);
      console.info(image.name, asked.length, "programs", counts);
      expect(asked.length).toBeGreaterThan(20);
      expect(counts.insns).toBeGreaterThan(1000);
      expect(counts.lines).toBeGreaterThan(100);
      if (image.answer("machine") === "x86_64\n")
        expect(counts.otherOperations / counts.insns).toBeLessThan(0.01);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  MACHINE_MS,
);
