/** `prog dump xlated` of the running kernel inside guests, compared with the guest's own bpftool. */
import { expect, test } from "bun:test";
import { labSkipReason } from "./availability.ts";
import { bootGuest } from "./frozen.ts";
import { bootOptionsOf, labRows } from "./matrix.ts";

/** Takes minutes under emulation, so CI does not run it. */
const isAsked = process.env["KTSTR_LAB"] === "all";
const GUEST_MS = 900_000;

const rows = labRows().filter((row) => row !== "panicked");

test.skipIf((await labSkipReason()) !== "" || !isAsked).each(rows)(
  "%s: every program's instructions, as JSON and as text",
  async (row) => {
    const { vmcore: _, memoryMiB: _size, withCode: _code, ...options } = bootOptionsOf(row);
    // scx_central is ejected when it moves a task with disabled migration, such as bpftool. Its programs are gone then.
    const scheduler = options.scheduler === "scx_central" ? "scx_simple" : options.scheduler;
    await using guest = await bootGuest({ ...options, ...(scheduler && { scheduler }), withKtstr: true });
    await guest.thaw();
    const text = async (script: string): Promise<string> => {
      const { status, stdout, stderr } = await guest.exec(script, GUEST_MS);
      expect([script, status, stderr]).toEqual([script, 0, ""]);
      return new TextDecoder().decode(stdout);
    };
    const shown = JSON.parse(await text("bpftool -j prog show")) as {
      readonly id: number;
      readonly name?: string;
    }[];
    // Programs of the zoo and of the scheduler stay; bpftool's own do not.
    const ids = shown.flatMap(({ id, name }) =>
      name === undefined || /^(libbpf|iter$|dump_)/.test(name) ? [] : [id],
    );
    expect(ids.length).toBeGreaterThan(30);
    const lines = ids.flatMap((id) => [
      `prog dump xlated id ${id} opcodes linum`,
      `prog dump xlated id ${id} linum`,
    ]);
    // bpftool sorts all symbols for each program; symbols of code suffice for the names of calls.
    await text("grep ' [tTwW] ' /proc/kallsyms > /tmp/code && mount -o bind /tmp/code /proc/kallsyms");
    const both = async (command: string): Promise<string[]> => {
      const script = lines.map(
        (line, place) =>
          `echo ==; ${command}${place % 2 === 0 ? " -j" : ""} ${line} 2>/dev/null || echo failed`,
      );
      return (await text(script.join("\n"))).split("==\n").slice(1);
    };
    const theirs = await both("bpftool");
    await text(`printf '${lines.join("\\n")}\\n' > /tmp/batch`);
    const mine = JSON.parse(
      await text(`cd /ktstr && bun run ktstr -j batch file /tmp/batch 2> /dev/null | sed -n '/^\\[/,$p'`),
    ) as { readonly output: unknown }[];
    const plain = await text("cd /ktstr && bun run ktstr batch file /tmp/batch 2> /dev/null");
    let compared = 0;
    for (const [place, line] of lines.entries()) {
      const their = theirs[place]!;
      // A program that has ended meanwhile.
      if (their === "failed\n") continue;
      expect([line, their.trim()]).not.toEqual([line, ""]);
      if (place % 2 === 0) expect([line, JSON.stringify(mine[place]?.output)]).toEqual([line, their.trim()]);
      else expect([line, plain.includes(their)]).toEqual([line, true]);
      compared++;
    }
    console.info(row, compared, "dumps");
    expect(compared).toBeGreaterThan(60);
  },
  GUEST_MS,
);
