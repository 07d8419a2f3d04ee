/** The executable in an initramfs in which nothing is mounted. */
import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildExecutable } from "../../tools/build.ts";
import { withoutBpftools } from "../guest/images.ts";
import { missing, parseExact } from "../live/bpftool.ts";
import { withoutProc } from "../live/without-proc.ts";
import type { ExecResult } from "./agent.ts";
import { labSkipReason } from "./availability.ts";
import { cpio } from "./cpio.ts";
import { bootGuest, type FrozenGuest } from "./frozen.ts";
import { withLibraries } from "./initramfs.ts";

const bareMs = 900_000;
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Unmounts everything except the initramfs itself, the deepest mount first, and checks that nothing is left. */
const UNMOUNT = [
  'for at in $(sed "s/^[^ ]* \\([^ ]*\\).*/\\1/" /proc/mounts | sort -r); do [ $at = / ] || umount -l $at; done',
  '[ ! -e /proc/mounts ] && [ ! -e /sys/kernel ] && [ ! -e /dev/null ] || { echo "still mounted" >&2; exit 99; }',
];

/** Runs the executable in the guest with nothing mounted. */
function ktstr(guest: FrozenGuest, words: string): Promise<ExecResult> {
  const lines = [...UNMOUNT, `exec ktstr ${words}`];
  return guest.exec(`busybox unshare -m sh -s <<'EOF'\n${lines.join("\n")}\nEOF`);
}

/** Removes counters, which change between two readings, and users of a BTF object, which the listing itself adds. */
const MOVING = ["run_time_ns", "run_cnt", "recursion_misses", "prog_ids", "map_ids"];

test.skipIf((await labSkipReason()) !== "")(
  "in an initramfs with nothing mounted ktstr shows what bpftool shows with everything mounted, except facts of /proc and /sys",
  async () => {
    const out = await mkdtemp(join(tmpdir(), "ktstr-bare-"));
    try {
      const executable = await buildExecutable("x64", out);
      const overlay = cpio(await withLibraries({ from: executable, to: "bin/ktstr" }, "amd64"));
      await using guest = await bootGuest({
        ...{ kernel: "sid", scheduler: "scx_simple", zoo: true, memoryMiB: 1536, overlays: [overlay] },
      });
      await guest.thaw();
      await guest.exec("f=/sys/fs/cgroup/lab/cgroup.freeze; [ ! -e $f ] || echo 1 > $f");
      const wrong: string[] = [];
      for (const kind of ["map", "prog", "link", "btf"]) {
        // Maps were read one by one (see collectScript). bpftool 7.8 would list the BTF of its own programs.
        const listed =
          kind === "map"
            ? ((await guest.answers.json("map-show"))?.text ?? "[]")
            : decode((await guest.exec(`bpftool-debian -j ${kind} show`)).stdout);
        const theirs = withoutProc(withoutBpftools(parseExact(listed) as unknown[]));
        expect(theirs.length).toBeGreaterThan(0);
        for (const object of theirs) {
          for (const key of MOVING) delete object[key];
          // Names of addresses come from /proc/kallsyms.
          for (const one of (object["funcs"] ?? []) as { [key: string]: unknown }[])
            for (const key of ["func", "module"]) delete one[key];
        }
        const ran = await ktstr(guest, `-j ${kind} show`);
        expect([kind, ran.status]).toEqual([kind, 0]);
        expect(ran.stderr).toStartWith("ktstr: warn: /proc is not mounted: ");
        const ours = parseExact(decode(ran.stdout));
        wrong.push(
          ...missing(ours, theirs, { off: { loaded_at: 1 } }).map((sentence) => `${kind}: ${sentence}`),
        );
      }
      expect(wrong).toEqual([]);
      const page = await ktstr(guest, "inspect");
      expect([page.status, page.stderr]).toEqual([0, ""]);
      const text = decode(page.stdout);
      expect(text).toContain(`${guest.kernel.release} x86_64, CPUs not known (/sys is not mounted)`);
      const ops = await guest.answers.text("sched_ext/root/ops");
      expect(text).toMatch(new RegExp(`^Scheduler +${ops?.trim()} `, "m"));
    } finally {
      await rm(out, { recursive: true, force: true });
    }
  },
  bareMs,
);
