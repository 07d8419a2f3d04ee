/**
 * Assertions on a frozen machine from `bun test`: nothing runs in the guest, and nothing needs its vmlinux.
 *
 *     KTSTR_EXAMPLE_IMAGE=/path/to/memory bun test ./examples/frozen-scheduler.test.ts
 *
 * The image is a raw memory file or an ELF core of a machine on which a sched_ext scheduler is attached, such as QEMU
 * leaves with a memory-backend-file or `dump-guest-memory`; without one it is the captured machine that comes with
 * ktstr, whose scheduler has stalled. In a project of your own the import is from "ktstr".
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type GuestState, openGuest, type StateView, view } from "../src/index.ts";

const sample = join(import.meta.dir, "../sample/sid.vmcore.zst");
const image = process.env["KTSTR_EXAMPLE_IMAGE"] ?? sample;
/** Of the captured machine it is known that this fails. */
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

  testOfWaits("let no task wait longer than a second", () => {
    const { tasks, cpus, missing } = frozen.scheduler();
    expect(missing).toEqual([]);
    expect(cpus.length).toBeGreaterThan(0);
    // A failure shows who waits, for how long, and on which queue; null: the scheduler was given the task and kept it.
    const late = tasks
      .filter(({ isCurrent, waitMs }) => !isCurrent && waitMs > 1000)
      .map(({ comm, pid, waitMs, dsqId }) => ({ comm, pid, waitMs, dsqId }));
    expect(late).toEqual([]);
  });

  test("keeps its global variables where a test can read them", () => {
    const sections = guest.maps().filter(({ name }) => /\.(bss|data)$/.test(name));
    const globals = sections.flatMap((map) => Object.entries(map.globals()));
    expect(globals.length).toBeGreaterThan(0);
    // One of your own: expect(guest.map("scx_sdt.bss").global("stat_enqueue")).toBeGreaterThan(0);
  });

  test("left every map readable", () => {
    const typed = guest.maps().filter(({ info }) => info.type === 1 && info.btfValueTypeId !== 0);
    for (const map of typed) for (const { value } of map.entries({ limit: 10 })) expect(value).toBeDefined();
  });
});
