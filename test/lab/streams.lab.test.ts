/**
 * Streams that QEMU writes when a guest is saved, compared with the guest's memory file: the guest is paused once the stream is
 * written. It runs during the save, so that pages change and are sent again.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { labSkipReason } from "./availability.ts";
import { bootGuest, type FrozenGuest } from "./frozen.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 600_000;
const saveMs = 300_000;

interface Ran {
  readonly out: string;
  readonly err: string;
  readonly status: number;
}

async function inspect(...sources: readonly string[]): Promise<Ran> {
  const memory = sources.flatMap((source) => ["--memory", source]);
  const child = Bun.spawn([process.execPath, cli, "-j", "inspect", ...memory], { stderr: "pipe" });
  const [out, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { out, err, status };
}

interface Saved {
  readonly status: string;
  readonly ram: { readonly duplicate: number; readonly normal: number; readonly total: number };
}

async function save(guest: FrozenGuest, path: string): Promise<Saved> {
  await guest.qmp("migrate", { uri: `exec:cat > ${path}` });
  for (;;) {
    const saved = (await guest.qmp("query-migrate")) as Saved;
    if (["completed", "failed", "cancelled"].includes(saved.status)) return saved;
    await Bun.sleep(200);
  }
}

describe.skipIf((await labSkipReason()) !== "")("a guest of 3 GiB that is saved while it runs", () => {
  let guest: FrozenGuest;
  let stream = "";
  let saved: Saved;

  beforeAll(async () => {
    guest = await bootGuest({ kernel: "6.1", memoryMiB: 3072, zoo: true });
    stream = join(guest.dir, "stream");
    await guest.thaw();
    // Slow enough for pages to change meanwhile, then fast enough to end.
    await guest.qmp("migrate-set-parameters", { "max-bandwidth": 100_000_000, "downtime-limit": 2000 });
    saved = await save(guest, stream);
  }, bootMs);
  afterAll(async () => guest?.[Symbol.asyncDispose]());

  test("some pages were sent again", () => {
    expect(saved.status).toBe("completed");
    expect(saved.ram.duplicate + saved.ram.normal).toBeGreaterThan(saved.ram.total / 4096);
    console.log(
      `${Bun.file(stream).size} bytes: ${saved.ram.normal} full pages, ${saved.ram.duplicate} of zeros, of ${saved.ram.total / 4096}`,
    );
  });

  test("has the same contents in its stream and in its memory, on both sides of the hole below 4 GiB", async () => {
    expect(guest.pieces.map(({ gpa }) => gpa)).toEqual([0, 2 ** 32]);
    const raw = await inspect(guest.memoryPath);
    expect([raw.status, raw.err]).toEqual([0, ""]);
    expect(raw.out.length).toBeGreaterThan(100_000);
    expect(await inspect(stream)).toEqual(raw);
  });

  test(
    "is an error with the reason if its pages are compressed",
    async () => {
      const capabilities = (state: boolean): unknown => ({
        capabilities: [{ capability: "compress", state }],
      });
      await guest.qmp("migrate-set-capabilities", capabilities(true) as { [key: string]: unknown });
      const path = join(guest.dir, "compressed");
      await guest.thaw();
      expect((await save(guest, path)).status).toBe("completed");
      const { out, status } = await inspect(path);
      expect([status, out]).toEqual([1, expect.stringContaining("the unsupported capability compress")]);
    },
    saveMs,
  );
});
