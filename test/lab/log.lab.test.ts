/** The kernel's log after its buffer wrapped around: wrapped text, overwritten records, arbitrary bytes. */
import { describe, expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { expectSameLog } from "../guest/support/log-answers.ts";
import { labSkipReason } from "./availability.ts";
import { bootGuest } from "./frozen.ts";

/** 5,000 records of up to 900 bytes: the text buffer of Debian's kernels (2^17 bytes) wraps around many times. */
const FILL = String.raw`
echo on > /proc/sys/kernel/printk_devkmsg
printf '<30>daemon: \033[31mred\033[0m, tab\there, \\ backslash, \303\244\377' > /dev/kmsg
long=$(printf 'x%.0s' $(seq 900))
i=0
while [ $i -lt 5000 ]; do
  n=$((i * 37 % 900))
  echo "<$((i % 8))>$i $(expr substr $long 1 $((n + 1)))" > /dev/kmsg
  i=$((i + 7))
done
printf '<30>daemon: \033[31mred\033[0m, tab\there, \\ backslash, \303\244\377' > /dev/kmsg
printf '<4>two\nlines' > /dev/kmsg
`;

describe.skipIf((await labSkipReason()) !== "")("a log that wrapped around", () => {
  test.each(["sid", "6.1"] as const)(
    "%s: every remaining record is equal to that of /dev/kmsg and dmesg",
    async (kernel) => {
      await using guest = await bootGuest({ kernel });
      await guest.thaw();
      const said = async (script: string): Promise<string> =>
        Buffer.from((await guest.exec(script, 300_000)).stdout).toString("latin1");
      await said(FILL);
      const [dmesg, kmsg] = [await said("dmesg -r -s 1000000"), await said("timeout 2 cat /dev/kmsg")];
      await guest.freeze();
      using state = openGuest({ memory: guest.memoryPath });
      const log = state.log();
      expect(expectSameLog(log.records, kmsg, dmesg)).toBeGreaterThan(100);
      expect(log.overwritten).toBeGreaterThan(300n);
      expect(log.records.some(({ facility }) => facility === 3)).toBe(true);
    },
    900_000,
  );
});
