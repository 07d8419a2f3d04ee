/**
 * Every format in which this machine's QEMU writes a guest's memory, against the memory file of the same moment: its dumps,
 * and its migration streams. Formats that this QEMU cannot write are named. (makedumpfile's and the others' files:
 * dumps.lab.test.ts; libvirt's: libvirt.lab.test.ts; LiME's: lime.lab.test.ts.)
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { labSkipReason } from "./availability.ts";
import { bootGuest, type FrozenGuest } from "./frozen.ts";
import { qemuFor } from "./qemu.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 600_000;
const saveMs = 300_000;

async function inspect(path: string): Promise<string> {
  const child = Bun.spawn([process.execPath, cli, "-j", "inspect", "--memory", path], { stderr: "pipe" });
  const [out, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect([status, err]).toEqual([0, ""]);
  return out;
}

/** What the machine's QEMU says of itself, without a guest. */
function askQemu(): {
  readonly version: string;
  readonly formats: readonly string[];
  readonly capabilities: readonly string[];
} {
  const commands = [
    "qmp_capabilities",
    "query-version",
    "query-dump-guest-memory-capability",
    "query-migrate-capabilities",
    "quit",
  ];
  const machine = ["-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"];
  const stdin = Buffer.from(commands.map((execute) => `${JSON.stringify({ execute })}\n`).join(""));
  const { stdout } = Bun.spawnSync([qemuFor.amd64, ...machine], { stdin });
  const answers = stdout
    .toString()
    .split("\n")
    .filter((line) => line.startsWith('{"return"'))
    .map((line) => (JSON.parse(line) as { return: unknown }).return);
  const [, said, dump, migrate] = answers as [
    unknown,
    { qemu: { major: number; minor: number; micro: number } },
    { formats: string[] },
    { capability: string }[],
  ];
  const { major, minor, micro } = said.qemu;
  return {
    version: `QEMU ${major}.${minor}.${micro}`,
    formats: dump.formats,
    capabilities: migrate.map(({ capability }) => capability),
  };
}

const why = await labSkipReason();
const { version, formats, capabilities } =
  why === "" ? askQemu() : { version: "", formats: [], capabilities: [] };

describe.skipIf(why !== "")("a guest's memory as QEMU writes it", () => {
  let guest: FrozenGuest;
  const table: string[] = [];

  beforeAll(async () => {
    guest = await bootGuest({ kernel: "6.1", memoryMiB: 512, zoo: true });
  }, bootMs);
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    console.log(table.map((format) => `${format}: ${version}, equal`).join("\n"));
  });

  /** What the file says is what the memory file says now. */
  async function compare(format: string, path: string): Promise<void> {
    const reference = await inspect(`${guest.memoryPath}@0`);
    expect(reference.length).toBeGreaterThan(100_000);
    expect(await inspect(path)).toBe(reference);
    table.push(format);
    rmSync(path.replace(/@0$/, ""));
  }

  for (const format of [
    "elf",
    ...["kdump-zlib", "kdump-lzo", "kdump-snappy"],
    ...["kdump-raw-zlib", "kdump-raw-lzo", "kdump-raw-snappy"],
  ])
    test.skipIf(!formats.includes(format))(
      `dump-guest-memory, ${format}${formats.includes(format) ? "" : `: ${version} cannot write it`}`,
      async () => {
        const path = join(guest.dir, format);
        await guest.qmp("dump-guest-memory", { paging: false, protocol: `file:${path}`, format });
        await compare(`dump-guest-memory ${format}`, path);
      },
      saveMs,
    );

  /** The guest runs until the stream is written: QEMU does not migrate once more what a migration stopped. */
  async function migrate(uri: string): Promise<void> {
    await guest.thaw();
    await guest.qmp("migrate", { uri });
    for (;;) {
      const { status } = (await guest.qmp("query-migrate")) as { status: string };
      if (status === "completed") return;
      if (status === "failed" || status === "cancelled") throw new Error(`migrate ${uri}: ${status}`);
      await Bun.sleep(200);
    }
  }

  // QEMU has both since 9.0.
  const hasMapped = capabilities.includes("mapped-ram");
  for (const [name, uri, isMapped, isKnown] of [
    ["migrate exec:", "exec:cat > ", false, true],
    ["migrate file:", "file:", false, hasMapped],
    ["migrate file: with mapped-ram", "file:", true, hasMapped],
  ] as const)
    test.skipIf(!isKnown)(
      `${name}${isKnown ? "" : `: ${version} cannot write it`}`,
      async () => {
        if (isMapped)
          await guest.qmp("migrate-set-capabilities", {
            capabilities: [{ capability: "mapped-ram", state: true }],
          });
        const path = join(guest.dir, "stream");
        await migrate(`${uri}${path}`);
        await compare(name, `${path}@0`);
      },
      saveMs,
    );
});
