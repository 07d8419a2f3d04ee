/** Standard output as a pipe, a closed pipe, a full disk and a terminal. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { CLI, kernelSkipReason, ktstr, spawn } from "../live/bpftool.ts";
import { type HeldMap, Kit } from "../live/kit.ts";

const COMMAND = `${process.execPath} ${CLI}`;

describe.skipIf(kernelSkipReason("script", "perl") !== "")("output", () => {
  const kit = new Kit();
  let map: HeldMap;
  /** More than a megabyte, so more than the 64 KiB of a pipe. */
  let dump = "";
  beforeAll(() => {
    map = kit.map({ type: "hash", name: "much", keySize: 8, valueSize: 64, maxEntries: 4000 });
    kit.fill(map, 4000);
    dump = ktstr(["-j", "map", "dump", "id", String(map.id)]).out;
  });
  afterAll(() => kit[Symbol.dispose]());
  const dumping = (): string => `${COMMAND} -j map dump id ${map.id}`;

  test("through a pipe is complete", () => {
    expect((JSON.parse(dump) as unknown[]).length).toBe(4000);
    expect(dump.length).toBeGreaterThan(1_000_000);
    expect(spawn(["sh", "-c", `${dumping()} | cat`]).out).toBe(dump);
  });

  test("into a closed pipe ends without a message", () => {
    for (const what of [dumping(), `${COMMAND} map dump id ${map.id}`, `${COMMAND} inspect --limit 4000`]) {
      const ran = spawn(["bash", "-c", `${what} | head -c 5; echo " \${PIPESTATUS[0]}"`]);
      expect(ran.err).toBe("");
      expect(ran.out).toMatch(/^.{5} 0\n$/s);
    }
  });

  /** Returns the output of a command into a pipe that is non-blocking and read slowly. */
  const slowly = (stream: "STDOUT" | "STDERR", command: string[]): ReturnType<typeof spawn> => {
    const script = `
      use Fcntl; $| = 1;
      pipe(my $r, my $w); fcntl($w, F_SETFL, fcntl($w, F_GETFL, 0) | O_NONBLOCK);
      my $pid = fork;
      if (!$pid) { close $r; open(${stream}, ">&", $w); exec @ARGV or die; }
      close $w;
      select(undef, undef, undef, 0.3);
      while (sysread($r, my $piece, 100_000)) { print $piece; select(undef, undef, undef, 0.002); }
      waitpid($pid, 0); exit $? >> 8;`;
    return spawn(["perl", "-e", script, "--", ...command]);
  };

  test("into a pipe that is non-blocking and read slowly loses nothing", () => {
    const ran = slowly("STDOUT", dumping().split(" "));
    expect([ran.status, ran.err]).toEqual([0, ""]);
    expect(ran.out === dump).toBe(true);
  });

  test("of an error is complete, too, and the status is right even if stderr is closed", () => {
    const word = "x".repeat(100_000);
    const ran = slowly("STDERR", [process.execPath, CLI, word]);
    expect(ran.status).toBe(2);
    expect(ran.out).toStartWith(`ktstr: error: ktstr: there is no command "${word}"`);
    expect(ran.out).toEndWith("\n");
    expect(
      spawn(["bash", "-c", `${COMMAND} nothing 2>&-; echo $?; ${COMMAND} nothing 2>/dev/full; echo $?`]).out,
    ).toBe("2\n2\n");
  });

  test("to a full disk is an error that says so", () => {
    for (const what of [dumping(), `${COMMAND} map show`, `${COMMAND} --help`, `${COMMAND} inspect`]) {
      const ran = spawn(["sh", "-c", `${what} > /dev/full`]);
      expect([ran.status, ran.out]).toEqual([1, ""]);
      expect(ran.err).toMatch(/^ktstr: error: [^\n]*ENOSPC[^\n]*\n$/);
    }
  });

  test("ends at Ctrl-C in the middle of a dump, quickly and without a stack trace", async () => {
    // Nobody reads, so the dump waits for a full pipe.
    const running = Bun.spawn([process.execPath, CLI, "-j", "map", "dump", "id", String(map.id)], {
      stdout: "pipe",
      stderr: "pipe",
    });
    const reader = running.stdout.getReader();
    const { value } = await reader.read();
    expect(value?.length).toBeGreaterThan(0);
    running.kill("SIGINT");
    await running.exited;
    expect([running.signalCode, running.exitCode]).toEqual(["SIGINT", null]);
    expect(await new Response(running.stderr).text()).toBe("");
    await reader.cancel();
  });

  describe("has color", () => {
    const onTerminal = (what: string, env: Record<string, string> = {}): string =>
      spawn(["script", "-qec", what, "/dev/null"], { TERM: "xterm", NO_COLOR: "", CI: "", ...env }).out;

    test("on a terminal", () => {
      expect(onTerminal(`${COMMAND} inspect`)).toContain("\u001b[1m");
      expect(onTerminal(`${COMMAND} --help`)).toContain("\u001b[");
    });

    test("not if NO_COLOR has a value, and not on a terminal without color", () => {
      for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
        for (const words of ["inspect", "--help", "map show"]) {
          expect(onTerminal(`${COMMAND} ${words}`, env)).not.toContain("\u001b");
        }
      }
    });

    test("not in a pipe or file, and never in JSON", () => {
      for (const words of [["inspect"], ["--help"], ["-j", "inspect"]])
        expect(ktstr(words).out).not.toContain("\u001b");
      expect(onTerminal(`${COMMAND} -j inspect`)).not.toContain("\u001b");
    });
  });
});
