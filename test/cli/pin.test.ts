/** `ktstr pin`: the held map, the command, signals, and descriptors. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { openLive } from "../../src/live/live.ts";
import { pinByName } from "../../src/live/pin.ts";
import { CLI, kernelSkipReason, ktstr, ktstrJson, spawn } from "../live/bpftool.ts";
import { fdCount, Kit } from "../live/kit.ts";
import { loadProg } from "../live/kit-progs.ts";

let names = 0;
/** Names of this process only, because other processes create maps, too. */
const freshName = (): string => `p${process.pid % 100_000}_${++names}.bss`;

const isThere = (id: number): boolean => {
  using live = openLive({ keep: () => false });
  return live.maps().some((map) => map.id === id);
};

/** The kernel frees a map after an RCU grace period; its id disappears immediately or a little later. */
async function untilGone(id: number): Promise<boolean> {
  for (let tries = 0; tries < 200; tries++) {
    if (!isThere(id)) return true;
    await Bun.sleep(20);
  }
  return false;
}

class Pin {
  readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** Output on stderr, up to and including its first line. */
  readonly firstLine: () => Promise<string>;

  constructor(...words: string[]) {
    const command = [process.execPath, CLI, "pin", ...words];
    this.process = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    const reader = this.process.stderr.getReader();
    this.firstLine = async () => {
      let said = "";
      while (!said.includes("\n")) {
        const { value, done } = await reader.read();
        if (done) break;
        said += Buffer.from(value).toString();
      }
      return said;
    };
  }
}

describe.skipIf(kernelSkipReason() !== "")("ktstr pin", () => {
  test("keeps the map of a process that ends, until the command ends", async () => {
    const name = freshName();
    const kit = new Kit();
    const map = kit.map({ type: "array", name, maxEntries: 1 });
    kit.update(map, new Uint8Array(4), Uint8Array.of(1, 2, 3, 4));
    const pin = new Pin(name, "--", "sh", "-c", "read line; echo got $line; exit 7");
    expect(await pin.firstLine()).toBe(`ktstr: info: holding map ${map.id} (${name})\n`);
    kit[Symbol.dispose]();
    await Bun.sleep(100);
    expect(isThere(map.id)).toBe(true);
    expect(ktstrJson("map", "dump", "name", name)).toMatchObject([
      { value: ["0x01", "0x02", "0x03", "0x04"] },
    ]);
    pin.process.stdin.write("a line\n");
    pin.process.stdin.end();
    expect(await new Response(pin.process.stdout).text()).toBe("got a line\n");
    expect(await pin.process.exited).toBe(7);
    expect(await untilGone(map.id)).toBe(true);
  });

  for (const [command, status] of [
    [["true"], 0],
    [["false"], 1],
    [["sh", "-c", "exit 200"], 200],
    [["sh", "-c", "kill -TERM $$"], 143],
    [["sh", "-c", "kill -KILL $$"], 137],
    [["printf", "%s|", "--json", "-x", "--", "a b"], 0],
  ] as const) {
    test(`ends with its command's status: ${command.join(" ")} is ${status}`, () => {
      using kit = new Kit();
      const name = freshName();
      kit.map({ type: "array", name });
      const ran = ktstr(["pin", name, "--", ...command]);
      expect(ran.status).toBe(status);
      // Options after `--` belong to the command.
      if (command[0] === "printf") expect(ran.out).toBe("--json|-x|--|a b|");
    });
  }

  test("a command that does not exist is an error", () => {
    using kit = new Kit();
    const name = freshName();
    kit.map({ type: "array", name });
    const ran = ktstr(["pin", name, "--", "/no/such/program"]);
    expect([ran.status, ran.out]).toEqual([1, ""]);
    expect(ran.err).toContain("ktstr: error: /no/such/program: there is no such command\n");
  });

  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    test(`without a command it holds the map until ${signal}, with status 0`, async () => {
      const name = freshName();
      const kit = new Kit();
      const map = kit.map({ type: "array", name });
      const pin = new Pin(name);
      await pin.firstLine();
      kit[Symbol.dispose]();
      expect(isThere(map.id)).toBe(true);
      pin.process.kill(signal);
      expect(await pin.process.exited).toBe(0);
      expect(await untilGone(map.id)).toBe(true);
    });
  }

  test("forwards a signal to its command, and ends with it", async () => {
    using kit = new Kit();
    const name = freshName();
    kit.map({ type: "array", name });
    const script = 'trap "echo told; exit 5" TERM; echo ready; for n in $(seq 200); do sleep 0.05; done';
    const pin = new Pin(name, "--", "sh", "-c", script);
    const reader = pin.process.stdout.getReader();
    expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("ready\n");
    pin.process.kill("SIGTERM");
    expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("told\n");
    expect(await pin.process.exited).toBe(5);
  });

  for (const signal of ["SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2"] as const)
    test(`forwards ${signal}, and holds the map while its command runs`, async () => {
      const kit = new Kit();
      const name = freshName();
      const map = kit.map({ type: "array", name });
      // The command survives the signal: the map must exist while it runs.
      const trap = `trap "echo told" ${signal.slice(3)}`;
      const pin = new Pin(
        name,
        "--",
        "sh",
        "-c",
        `${trap}; echo ready; while ! read line; do :; done; exit 6`,
      );
      const reader = pin.process.stdout.getReader();
      expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("ready\n");
      kit[Symbol.dispose]();
      pin.process.kill(signal);
      expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("told\n");
      expect([pin.process.exitCode, isThere(map.id)]).toEqual([null, true]);
      pin.process.stdin.write("end\n");
      pin.process.stdin.end();
      expect(await pin.process.exited).toBe(6);
      expect(await untilGone(map.id)).toBe(true);
    });

  test.each([
    ["Ctrl-C", "03", "INT"],
    ["Ctrl-\\", "1c", "QUIT"],
  ])("%s of a terminal reaches its command once", (_, keys, signal) => {
    using kit = new Kit();
    const name = freshName();
    kit.map({ type: "array", name });
    const script = `n=0; trap 'n=$((n+1))' ${signal}; echo ready; for i in 1 2 3 4 5 6; do sleep 0.2; done; echo told $n; exit 5`;
    const terminal = join(import.meta.dir, "support/terminal.py");
    const command = [process.execPath, CLI, "pin", name, "--", "sh", "-c", script];
    const { out } = spawn(["python3", terminal, keys, ...command]);
    expect(out).toContain("told 1\nstatus 5\n");
  });

  test("of two maps with the name holds the older, and names the other", async () => {
    using kit = new Kit();
    const name = freshName();
    const [older, newer] = [kit.map({ type: "array", name }), kit.map({ type: "array", name })];
    const ran = ktstr(["pin", name, "--", "true"]);
    expect(ran.err).toBe(
      `ktstr: info: holding map ${older?.id} (${name}); others with this name: ${newer?.id}\n`,
    );
    expect(ran.status).toBe(0);
  });

  test("the error for a missing name lists the existing names and the usual causes in one line", () => {
    using kit = new Kit();
    const name = freshName();
    kit.map({ type: "array", name });
    const ran = ktstr(["pin", `${name}_is_too_long_by_far`, "--", "true"]);
    expect([ran.status, ran.out]).toEqual([1, ""]);
    expect(ran.err).toMatch(/^ktstr: error: no map is named [^\n]*\d+ maps? (was|were) seen: [^\n]*\n$/);
    for (const part of [name, "not loaded yet", "15 usable characters", "freed already"]) {
      expect(ran.err).toContain(part);
    }
  });

  test("does not leak the map's descriptor into its command", () => {
    using kit = new Kit();
    const name = freshName();
    kit.map({ type: "array", name });
    const ran = ktstr(["pin", name, "--", "sh", "-c", "ls -l /proc/self/fd"]);
    expect([ran.status, ran.out.includes("/proc/")]).toEqual([0, true]);
    expect(ran.out).not.toContain("bpf-map");
  });
});

describe.skipIf(kernelSkipReason() !== "")("pinByName as a library", () => {
  test("owns one descriptor until it is disposed, and none if it fails", () => {
    using kit = new Kit();
    const name = freshName();
    const map = kit.map({ type: "array", name });
    loadProg(kit, { type: "xdp" });
    pinByName(name)[Symbol.dispose](); // the first call keeps a file of /proc open
    const before = fdCount();
    {
      using held = pinByName(name);
      expect(held.info.id).toBe(map.id);
      expect(fdCount()).toBe(before + 1);
      expect(readlinkSync(`/proc/self/fd/${held.fd.number}`)).toBe("anon_inode:bpf-map");
    }
    expect(() => pinByName("no such map")).toThrow("no map is named");
    expect(fdCount()).toBe(before);
    expect(readdirSync("/proc/self/fd").length).toBeGreaterThan(0);
  });
});
