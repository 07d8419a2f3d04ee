/** The lab's own scheduler stalls as requested, according to the kernel's dump and watchdog and not only to its loader. */
import { describe, expect, test } from "bun:test";
import { labSkipReason } from "../availability.ts";
import type { FrozenImage } from "../frozen.ts";
import { frozenRow, rows, type StallRowName, stallRows } from "../matrix.ts";
import { isSilent, type Stall, type StallKind } from "./run.ts";

const BOOT_MS = 600_000;
/** Minimal time from the start of the stall to the kernel's dump: see STALLED_MS. */
const WAITED_MS = 3000;

interface Statement {
  readonly kind: StallKind;
  readonly victims: readonly { readonly pid: number; readonly comm: string; readonly enqueued_ns: number }[];
  readonly hogs: readonly { readonly pid: number; readonly comm: string }[];
  readonly exit?: { readonly kind: number; readonly reason: string; readonly message: string };
}

async function statementOf({ answers }: FrozenImage): Promise<Statement> {
  return JSON.parse((await answers.text("stall.json"))!) as Statement;
}

/** Returns the lines of the dump, without the trace's own columns. */
async function dumpOf({ answers }: FrozenImage): Promise<string> {
  const text = (await answers.text("scx-dump"))!;
  return text.replaceAll(/^.*?: sched_ext_dump: /gm, "");
}

/** Returns a runnable task of the dump: its lines up to its stack, and its CPU. */
function taskIn(
  dump: string,
  name: string,
): { readonly text: string; readonly cpu: string; readonly waitedMs: number } {
  const at = dump.indexOf(` ${name} `);
  if (at < 0) return { text: "", cpu: "", waitedMs: 0 };
  const text = dump.slice(at).split(/\n\s*\n/)[0]!;
  const cpu = /[\s\S]*\nCPU (\d+)/.exec(dump.slice(0, at))?.[1] ?? "";
  return { text, cpu, waitedMs: -Number(/ ([-+]\d+)ms/.exec(text)?.[1] ?? 0) };
}

/** Where the victims wait, and the cause, according to the kernel. */
const inTheWay: { readonly [kind in StallKind]?: (dump: string, victim: string) => void } = {
  "lost-comm": (_, victim) => {
    // SCX_OPSS_QUEUED: the BPF scheduler has the task, and it is on no queue.
    expect(victim).toMatch(/ops_state\/qseq=2\//);
    expect(victim).toContain("dsq_id=(n/a)");
  },
  "lost-dsq": (_, victim) => expect(victim).toContain("dsq_id=0xdead0"),
  pinned: (dump, victim) => {
    expect(victim).toContain("dsq_id=0x8000000000000002");
    // The shell that asks for the dump may run there, in the fair class. Then the hog is ready to run.
    expect(dump).toMatch(/\nCPU 1 [\s\S]*\n [* ]R hog-1\[\d+\]/);
  },
  "slice-inf": (dump, victim) => {
    expect(victim).toContain("dsq_id=0x5ced0");
    expect(dump).toContain("slice=18446744073709551615");
  },
  starved: (_, victim) => expect(victim).toMatch(/dsq_id=0x5ced0\s+dsq_vtime=1099511627776/),
  "rt-hog": (dump) => expect(dump).toMatch(/CPU 1 .*\n +curr=hog-1\[\d+\] class=rt_sched_class/),
};

const isAnswered = (stall: Stall | undefined): boolean =>
  stall !== undefined && !stall.ejected && !isSilent(stall.kind);

describe.skipIf((await labSkipReason()) !== "")("a scheduler that stalls", () => {
  test.each(stallRows().filter((row) => isAnswered(rows[row].stall)))(
    "%s: the kernel's dump has the queue and the wait of its tasks",
    async (row: StallRowName) => {
      const image = await frozenRow(row);
      const statement = await statementOf(image);
      expect(await image.answers.text("sched_ext/state")).toBe("enabled\n");
      expect(await image.answers.text("sched_ext/root/ops")).toBe("stall\n");
      const dump = await dumpOf(image);
      expect(statement.victims).toHaveLength(3);
      for (const { comm, pid } of statement.victims) {
        const { text, waitedMs } = taskIn(dump, `${comm}[${pid}]`);
        if (statement.kind === "healthy") expect(text).toBe("");
        else expect(waitedMs).toBeGreaterThanOrEqual(WAITED_MS);
        inTheWay[statement.kind]?.(dump, text);
      }
    },
    BOOT_MS,
  );

  const ejected = stallRows().filter((row) => rows[row].stall?.ejected === true);
  test.skipIf(ejected.length === 0).each(ejected)(
    "%s: the watchdog ejected it, and names the stalled task",
    async (row: StallRowName) => {
      const image = await frozenRow(row);
      const { exit, victims } = await statementOf(image);
      expect(await image.answers.text("sched_ext/state")).toBe("disabled\n");
      // SCX_EXIT_ERROR_STALL. SCX_EXIT_ERROR: the detector of soft lockups noticed the loop first.
      const isLockup = row === "ejected-loop" && /^soft lockup - CPU \d+ stuck/.test(exit?.message ?? "");
      expect(exit?.kind).toBe(isLockup ? 1024 : 1026);
      expect(await image.answers.text("dmesg")).toContain(`BPF scheduler "stall" disabled (${exit?.reason})`);
      const stalled = victims.map(({ comm, pid }) => `${comm}[${pid}]`);
      const named = [...stalled, "watchdog failed to check in"].some((name) => exit?.message.includes(name));
      if (row !== "ejected-rt-hog" && !isLockup)
        expect([named, exit?.message]).toEqual([true, exit?.message]);
    },
    BOOT_MS,
  );
});
