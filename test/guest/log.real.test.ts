/** `ktstr dmesg` of frozen machines, compared with the output of their own tools before the freeze. */
import { describe, expect } from "bun:test";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { readPrintk } from "../../src/guest/kernel/printk.ts";
import { ktstr } from "../live/bpftool.ts";
import { capturedImages } from "./captured.ts";
import { labImages, testEachMachine } from "./images.ts";
import { expectSameLog } from "./support/log-answers.ts";

const frozen = await labImages();
const machines = frozen.length > 0 ? frozen : capturedImages();
const images = machines.filter(({ answer }) => answer("kmsg") !== undefined);

describe("the kernel's log in memory", () => {
  testEachMachine(
    images,
    "%s: every record is as /dev/kmsg and dmesg gave it",
    (image) => {
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const latin1 = (file: string): string => Buffer.from(image.answerBytes(file)!).toString("latin1");
      const log = readPrintk(kernel);
      expect(expectSameLog(log.records, latin1("kmsg"), latin1("dmesg"))).toBeGreaterThan(200);
      expect([...log.torn.keys()]).toEqual([]);
    },
    60_000,
  );

  testEachMachine(
    images,
    "%s: --level and --since select the records that /dev/kmsg has with that level or from that time on",
    (image) => {
      const kmsg = Buffer.from(image.answerBytes("kmsg")!).toString("latin1");
      const theirs = [...kmsg.matchAll(/^(\d+),(\d+),(\d+),[^;\n]*;/gm)].map(([, level, seq, time]) => ({
        level: Number(level) & 7,
        seq: Number(seq),
        time: Number(time),
      }));
      const [first, last] = [theirs[0]!.seq, theirs.at(-1)!.seq];
      const shown = (...options: readonly string[]): number[] => {
        const { status, out } = ktstr(["-j", "dmesg", "--memory", image.memory, ...options]);
        expect(status).toBe(0);
        const { records } = JSON.parse(out) as { readonly records: readonly { readonly seq: number }[] };
        return records.map(({ seq }) => seq).filter((seq) => seq >= first && seq <= last);
      };
      const seqs = (isShown: (record: (typeof theirs)[number]) => boolean): number[] =>
        theirs.filter(isShown).map(({ seq }) => seq);
      const warnings = seqs(({ level }) => level <= 4);
      expect(warnings.length).toBeGreaterThan(0);
      expect(shown("--level", "warn+")).toEqual(warnings);
      expect(shown("--level", "notice,debug")).toEqual(seqs(({ level }) => level === 5 || level === 7));
      const middle = theirs[theirs.length >> 1]!.time;
      const since = ["--since", (middle / 1e6).toFixed(6)];
      expect(shown(...since)).toEqual(seqs(({ time }) => time >= middle));
      expect(shown(...since, "--level", "info")).toEqual(
        seqs(({ level, time }) => level === 6 && time >= middle),
      );
    },
    60_000,
  );
});
