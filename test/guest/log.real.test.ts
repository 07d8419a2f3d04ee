/** `ktstr dmesg` of frozen machines, compared with the output of their own tools before the freeze. */
import { describe, expect } from "bun:test";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { readPrintk } from "../../src/guest/kernel/printk.ts";
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
});
