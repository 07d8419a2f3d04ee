/** The running kernel's log, compared with dmesg(1), and records that /dev/kmsg does not return on demand. */
import { describe, expect, test } from "bun:test";
import { SyscallError } from "../../src/errors.ts";
import { parseMessage, readKmsg } from "../../src/live/kmsg.ts";
import { realSys } from "../../src/live/sys.ts";
import { recordLines, timeText } from "../../src/report/log.ts";
import { EPERM } from "../../src/uapi/errno.ts";
import { FakeKernel } from "./fake.ts";

const real = realSys.readMessages("/dev/kmsg");
const hasDmesg = Bun.which("dmesg") !== null;
const why = typeof real === "number" ? "/dev/kmsg cannot be read" : hasDmesg ? "" : "there is no dmesg";
if (why !== "") console.warn(`skipped: ${why}`);

describe.skipIf(why !== "")("the running kernel's log", () => {
  test("has the records that dmesg prints", () => {
    const { records } = readKmsg(realSys);
    const printed = Bun.spawnSync(["dmesg", "-r"]).stdout.toString("latin1").trimEnd().split("\n");
    const ours = records.flatMap(({ facility, level, timeNs, text }) =>
      Buffer.from(text)
        .toString("latin1")
        .split("\n")
        .map((line, index) => {
          const head = `<${facility * 8 + level}>${timeText(timeNs)} `;
          return index === 0 ? head + line : " ".repeat(head.length) + line;
        }),
    );
    const last = printed.lastIndexOf(ours.at(-1)!);
    expect(last).toBeGreaterThan(0);
    expect(ours.slice(-last)).toEqual(printed.slice(1, last + 1));
  });
});

describe("records of /dev/kmsg", () => {
  const message = (text: string): Uint8Array => Buffer.from(text, "latin1");

  test("a caller, a dictionary and escapes are decoded, and control characters are shown escaped", () => {
    const text =
      "30,412,5140900,-,caller=T17;a\\x1b[31mb\\x5cx\\x0aline\n SUBSYSTEM=pci\n DEVICE=+pci:0000\n";
    const record = parseMessage(text)!;
    expect(Buffer.from(record.text).toString("latin1")).toBe("a\u001b[31mb\\x\nline");
    expect([record.level, record.facility, record.caller, record.timeNs]).toEqual([6, 3, "T17", 5140900000n]);
    expect(Buffer.from(record.subsystem).toString()).toBe("pci");
    expect(recordLines(record)).toEqual([
      "daemon.info [    5.140900]    T17  a\\x1b[31mb\\\\x",
      "daemon.info [    5.140900]    T17  line",
    ]);
  });

  test("an invalid record is counted, and so are overwritten ones", () => {
    const kernel = new FakeKernel();
    kernel.messages.set("/dev/kmsg", [message("6,7,1,-;left\n"), message("nonsense\n")]);
    const log = readKmsg(kernel);
    expect([log.records.length, log.overwritten, [...log.torn.values()]]).toEqual([1, 7n, [1]]);
  });

  test("a refusal is an error that names the privilege", () => {
    const kernel = new FakeKernel();
    kernel.messages.set("/dev/kmsg", -EPERM);
    expect(() => readKmsg(kernel)).toThrow(SyscallError);
    try {
      readKmsg(kernel);
    } catch (error) {
      expect((error as SyscallError).hint).toContain("CAP_SYSLOG");
    }
  });
});
