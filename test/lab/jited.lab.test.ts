/** `prog dump jited` from memory, on both architectures: what the guest's own bpftool prints, with binutils' disassembler. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLI, spawn } from "../live/bpftool.ts";
import { expectSameJited, noCounts } from "../report/support/jited.ts";
import { bootGuest } from "./frozen.ts";
import { whyNoLab } from "./promise.ts";

const why = await whyNoLab();
/** bpftool takes minutes in an emulated guest: not in CI. */
const isAsked = process.env["KTSTR_LAB"] === "all";
const GUEST_MS = 900_000;

test.skipIf(why !== "" || !isAsked).each(["sid", "arm64"] as const)(
  "every program's machine code, with opcodes and lines: %s",
  async (kernel) => {
    const folder = mkdtempSync(join(tmpdir(), "ktstr-jited-"));
    try {
      await using guest = await bootGuest({ kernel, scheduler: "scx_simple", zoo: true });
      const shown = JSON.parse((await guest.answers.json("prog-show"))?.text ?? "[]") as {
        readonly id: number;
        readonly name?: string;
      }[];
      const own = shown.filter(({ name }) => /^(z_|simple_)/.test(name ?? ""));
      expect(own.length).toBeGreaterThan(30);
      const lines = own.map(({ id }) => `prog dump jited id ${id} opcodes linum\n`).join("");
      const batch = join(folder, "batch");
      writeFileSync(batch, lines);
      const options = ["--memory", guest.memoryPath];
      const mine = spawn([process.execPath, CLI, "-j", "batch", "file", batch, ...options]);
      expect(mine.status).toBe(0);
      await guest.thaw();
      // Each by a bpftool of its own: it keeps all of the kernel's symbols for every program, and a guest's memory is small.
      const script = `for id in ${own.map(({ id }) => id).join(" ")}; do
        bpftool -j prog dump jited id $id opcodes linum || exit; done`;
      const ran = await guest.exec(script, GUEST_MS);
      expect([ran.status, ran.stderr]).toEqual([0, ""]);
      const counts = noCounts();
      const theirs = new TextDecoder().decode(ran.stdout).trimEnd().split("\n");
      expect(theirs).toHaveLength(own.length);
      for (const [place, { output }] of (JSON.parse(mine.out) as { readonly output: unknown }[]).entries())
        expectSameJited(JSON.stringify(output), theirs[place]!, counts);
      console.log(kernel, own.length, "programs", counts);
      expect(counts.insns).toBeGreaterThan(1000);
      expect(counts.lines).toBeGreaterThan(100);
      if (kernel === "sid") expect(counts.otherOperations / counts.insns).toBeLessThan(0.01);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  GUEST_MS,
);
