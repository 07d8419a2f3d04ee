/** Sub-schedulers of a real kernel: the tree in frozen memory equals that of /sys/kernel/sched_ext and of the program that attached them. */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { openGuest } from "../../src/guest/guest.ts";
import { schedViews } from "../../src/report/inspect-sched.ts";
import { stringify } from "../../src/report/json.ts";
import { findingsOf } from "../../src/report/sched-findings.ts";
import { schedJson } from "../../src/report/sched-json.ts";
import { CLI } from "../live/bpftool.ts";
import { schedProblems } from "../report/schema.ts";
import { labSkipReason } from "./availability.ts";
import { cpio } from "./cpio.ts";
import { type Guest, startGuest } from "./guest.ts";
import { GuestDied } from "./guest-watch.ts";
import { buildSub } from "./sub/build.ts";

const OUTER = "/lab-outer";
const INNER = "/lab-outer/inner";

async function ask(guest: Guest, script: string): Promise<string> {
  const { status, stdout, stderr } = await guest.exec(script, 60_000);
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
  return new TextDecoder().decode(stdout);
}

async function compare(): Promise<void> {
  const program = new Uint8Array(await readFile(await buildSub()));
  const overlay = cpio([{ kind: "file", path: "lab-sub", data: program, executable: true }]);
  await using guest = await startGuest({ kernel: "sid", overlays: [overlay] });
  const root = "/sys/fs/cgroup";
  const ids = JSON.parse(
    await ask(
      guest,
      `/lab-sub ${root}${OUTER} ${root}${INNER} > /tmp/sub.json 2> /tmp/sub.log &
i=0
while [ ! -s /tmp/sub.json ]; do
  [ $i -lt 300 ] || { cat /tmp/sub.log >&2; dmesg | grep -i sched_ext >&2; exit 1; }
  usleep 100000; i=$((i+1))
done
cat /tmp/sub.json`,
    ),
  ) as [number, number];
  const files = await ask(
    guest,
    'cd /sys/kernel/sched_ext; find root -name ops | sort | while read f; do echo "$f $(cat $f)"; done',
  );
  await guest.freeze();

  const [outer, inner] = [`sub1-${ids[0]}`, `sub2-${ids[1]}`];
  // The kernel's own tree, as folders.
  expect(files.trim().split("\n").sort()).toEqual(
    [
      "root/ops lab_top",
      `root/sub/sub-${ids[0]}/ops lab_middle`,
      `root/sub/sub-${ids[0]}/sub/sub-${ids[1]}/ops lab_leaf`,
    ].sort(),
  );
  using state = openGuest({ memory: guest.memoryPath });
  const { schedulers, missing } = state.scheduler();
  expect(missing).toEqual([]);
  const tree = schedulers.map(({ opsName, place, parent, cgroupPath, isLoaded }) => ({
    opsName,
    place,
    parent,
    cgroupPath: place === "root" ? undefined : cgroupPath,
    isLoaded,
  }));
  expect(tree.sort((a, b) => (a.place < b.place ? -1 : 1))).toEqual([
    { opsName: "lab_top", place: "root", parent: undefined, cgroupPath: undefined, isLoaded: true },
    { opsName: "lab_middle", place: outer, parent: "root", cgroupPath: OUTER, isLoaded: true },
    { opsName: "lab_leaf", place: inner, parent: outer, cgroupPath: INNER, isLoaded: true },
  ]);
  // Schedulers whose operations number CPUs by topology have another struct_ops type.
  expect(state.activeScheduler()?.opsName).toBe("lab_top");
  const { views } = schedViews(state, "");
  const schedulersJson = views.map((view) => schedJson(view, findingsOf(view)));
  const report = JSON.parse(
    stringify({ schema: "ktstr-sched", schema_version: 1, schedulers: schedulersJson }),
  );
  expect(schedProblems(report)).toEqual([]);
  const page = Bun.spawnSync([
    process.execPath,
    CLI,
    "sched",
    "--memory",
    guest.memoryPath,
  ]).stdout.toString();
  expect(page).toContain(
    `Sub        lab_middle  ${outer}  ${OUTER}\nSub          lab_leaf  ${inner}  ${INNER}\n`,
  );
}

describe.skipIf((await labSkipReason()) !== "")("sub-schedulers", () => {
  test("are a tree, with their cgroups", async () => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await compare();
      } catch (error) {
        if (!(error instanceof GuestDied) || attempt === 3) throw error;
      }
    }
  }, 900_000);
});
