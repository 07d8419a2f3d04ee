/** The stack of a task that ran on a CPU at the freeze, from the core's registers, compared with the kernel's own call trace. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { captureGuest } from "../../src/guest/capture/capture.ts";
import { openGuest } from "../../src/guest/guest.ts";
import { type GuestKernel, openKernel } from "../../src/guest/kernel/kernel.ts";
import type { TaskAt } from "../../src/guest/kernel/tasks.ts";
import { registersOf } from "../../src/guest/task/registers.ts";
import { parseRegisters } from "../../src/guest/vm/registers.ts";
import { labSkipReason } from "./availability.ts";
import { startGuest } from "./guest.ts";
import type { KernelName } from "./kernels.ts";

const kernels: readonly KernelName[] =
  process.env["KTSTR_LAB"] === "all" ? ["sid", "6.12", "6.1", "7.3", "arm64"] : ["sid"];

/** Returns the frames of the call trace that the panic printed, from the handler that panicked on, without uncertain ones ("? ..."). */
function printedTrace(console: string): string[] {
  const lines = console.split(/\r?\n/);
  const start = lines.findIndex((line) => / Call [Tt]race:/.test(line));
  const frames = lines
    .slice(start)
    .flatMap((line) => / (?<!\? )([\w.]+\+0x\w+\/0x\w+)/.exec(line)?.[1] ?? []);
  return framesFromCrash(frames);
}

const framesFromCrash = (frames: readonly string[]): string[] =>
  frames.slice(frames.findIndex((frame) => frame.startsWith("sysrq_handle_crash+")));

describe.skipIf((await labSkipReason()) !== "")("a running task", () => {
  test.each(kernels.map((kernel) => [kernel] as const))(
    "%s: the shell that made the kernel panic",
    async (kernel) => {
      await using guest = await startGuest({ kernel });
      await guest.panic();
      await guest.freeze();
      const printed = printedTrace(await guest.console());
      const core = await guest.dumpVmcore();
      using state = openGuest({ memory: core });
      const running = [...state.stacks()].filter(({ frames }) =>
        frames.some(({ symbol }) => symbol.startsWith("sysrq_handle_crash+")),
      );
      expect(running.map(({ comm, stopped }) => [comm, stopped])).toEqual([["sh", ""]]);
      const symbols = running[0]!.frames.map(({ symbol }) => symbol);
      expect(symbols.indexOf(framesFromCrash(symbols)[0]!)).toBeGreaterThan(0);
      expect(printed.slice(0, framesFromCrash(symbols).length)).toEqual(framesFromCrash(symbols));
      expect(printed.length).toBeGreaterThan(5);
      // Raw memory has no registers.
      using raw = openGuest({ memory: guest.memoryPath });
      expect(raw.stack(running[0]!.pid)).toMatchObject({
        frames: [],
        stopped: expect.stringContaining("CPU"),
      });
      // A kdump file has the same notes.
      const kdump = join(guest.dir, "kdump");
      await guest.qmp("dump-guest-memory", {
        paging: false,
        protocol: `file:${kdump}`,
        format: "kdump-zlib",
      });
      using compressed = openGuest({ memory: kdump });
      expect(compressed.stack(running[0]!.pid)).toEqual(running[0]!);
      // QEMU's monitor has the same registers.
      const monitor = await guest.qmp("human-monitor-command", { "command-line": "info registers -a" });
      const parsed = parseRegisters(String(monitor));
      using dump = openKernel({ memory: [{ path: core }] });
      expect(parsed.length).toBe(dump.cpus.areas.length);
      for (const area of dump.cpus.areas) {
        const registers = (notes: readonly Uint8Array[]) =>
          registersOf({ prstatus: notes, info: dump.info } as GuestKernel, { pid: -1 } as TaskAt, area);
        expect(registers(parsed)).toBeDefined();
        expect(registers(parsed)).toEqual(registers(dump.prstatus));
      }
      // A capture contains them.
      const path = join(guest.dir, "capture.vmcore");
      {
        using made = captureGuest({ memory: [{ path: core }] }, (asked) => {
          for (const _ of asked.stacks());
        });
        await Bun.write(path, Buffer.concat([...made.pieces()]));
      }
      using captured = openGuest({ memory: path });
      expect(captured.stack(running[0]!.pid)).toEqual(running[0]!);
    },
    300_000,
  );
});
