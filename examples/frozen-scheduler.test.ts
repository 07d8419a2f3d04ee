/**
 * Assertions on a frozen machine with `bun test`. They need no program in the guest, and no vmlinux.
 *
 *     KTSTR_EXAMPLE_IMAGE=/path/to/memory bun test ./examples/frozen-scheduler.test.ts
 *
 * The image is the memory of a machine with an attached sched_ext scheduler: a raw memory file, such as QEMU's
 * memory-backend-file, or an ELF core, such as that of `dump-guest-memory`. Without an image the test reads the captured machine
 * that is part of ktstr, whose scheduler has stalled. In your own project, import from "ktstr".
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type GuestState, openGuest, type StateView, view } from "../src/index.ts";

const sample = join(import.meta.dir, "../sample/sid.vmcore.zst");
const image = process.env["KTSTR_EXAMPLE_IMAGE"] ?? sample;
/** The test about waits is expected to fail for the captured machine, because tasks wait there. */
const testOfWaits = image === sample ? test.failing : test;

describe("a scheduler in a frozen machine", () => {
  let guest: StateView;
  let frozen: GuestState;
  beforeAll(() => {
    frozen = openGuest({ memory: image });
    guest = view(frozen);
  });
  afterAll(() => guest[Symbol.dispose]());

  test("is attached, and its programs passed the verifier", () => {
    const scheduler = guest.state.activeScheduler();
    expect(scheduler?.opsName).not.toBe("");
    const progs = guest.state.progs().filter(({ id }) => scheduler?.progIds.includes(id));
    expect(progs.length).toBeGreaterThan(0);
    for (const prog of progs) expect(prog.verifiedInsns).toBeGreaterThan(0);
  });

  testOfWaits("has no task that waited longer than a second", () => {
    const { tasks, cpus, missing } = frozen.scheduler();
    expect(missing).toEqual([]);
    expect(cpus.length).toBeGreaterThan(0);
    // A failure shows the waiting tasks with their times and queues. A task that the scheduler has put on no queue has dsqId null.
    const late = tasks
      .filter(({ isCurrent, waitMs }) => !isCurrent && waitMs > 1000)
      .map(({ comm, pid, waitMs, dsqId }) => ({ comm, pid, waitMs, dsqId }));
    expect(late).toEqual([]);
  });

  test("has global variables that a test can read", () => {
    const sections = guest.maps().filter(({ name }) => /\.(bss|data)$/.test(name));
    const globals = sections.flatMap((map) => Object.entries(map.globals()));
    expect(globals.length).toBeGreaterThan(0);
    // With your own scheduler: expect(guest.map("scx_sdt.bss").global("stat_enqueue")).toBeGreaterThan(0);
  });

  test("has only maps that can be read", () => {
    const typed = guest.maps().filter(({ info }) => info.type === 1 && info.btfValueTypeId !== 0);
    for (const map of typed) for (const { value } of map.entries({ limit: 10 })) expect(value).toBeDefined();
  });
});
