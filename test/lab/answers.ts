/** Collects the answers of a guest: output of its kernel and tools, collected in the guest just before the freeze. */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeWhole } from "./cache.ts";
import type { Guest } from "./guest.ts";
import { LabError, run } from "./process.ts";

/** Symbols whose addresses are taken from /proc/kallsyms. Of the whole table, a digest and a count are taken. */
const symbols =
  "_stext _text _etext _end swapper_pg_dir init_top_pgt init_uts_ns linux_banner map_idr prog_idr btf_idr link_idr " +
  "__per_cpu_offset __per_cpu_start pcpu_base_addr nr_cpu_ids __cpu_possible_mask __cpu_online_mask page_offset_base " +
  "vmalloc_base vmemmap_base phys_base kimage_voffset memstart_addr __start_BTF __stop_BTF init_task init_pid_ns scx_root " +
  "scx_enable_state_var scx_ops kallsyms_num_syms kallsyms_offsets kallsyms_names kallsyms_token_table " +
  "kallsyms_token_index kallsyms_markers kallsyms_relative_base bpf_stats_enabled_key vmcoreinfo_data vmcoreinfo_note " +
  "sysctl_unprivileged_bpf_disabled bpf_map_types cgrp_dfl_root physvirt_offset vabits_actual";

/**
 * Writes answers to /tmp/answers and prints the folder as a tar archive. Debian's bpftool shows each map with a separate
 * command: in a listing, bpftool 7.8 does not clear its `struct bpf_map_info` between two maps, and Linux 7.x copies
 * the struct in (bpf_map_get_info_by_fd), so a map without BTF has the `btf_id` of the previous map. The lab's bpftool
 * lists the maps again with `pids`, and `withPids` adds them. Maps of the listing bpftool no longer exist when they are
 * shown: bpftool exits with 255, at which xargs would stop before its other processes have ended, so `true` follows.
 */
const collectScript = `
d=/tmp/answers; rm -rf $d; mkdir -p $d/map-dump $d/prog-dump $d/sched_ext
t=/sys/kernel/tracing
if [ -e $t/events/sched_ext/sched_ext_dump ]; then
  echo 4096 > $t/buffer_size_kb
  echo 1 > $t/events/sched_ext/sched_ext_dump/enable
fi
cat /proc/kallsyms > /tmp/.kallsyms
sha256sum < /tmp/.kallsyms | cut -d' ' -f1 > $d/kallsyms.sha256
awk -v names="${symbols}" -v d=$d 'BEGIN { n = split(names, a, " "); for (i = 1; i <= n; i++) want[a[i]] = 1 }
  NF == 3 && ($3 in want) { print > (d "/kallsyms") }
  NR % 1000 == 1 { print > (d "/kallsyms.sample") }
  END { print NR > (d "/kallsyms.count") }' /tmp/.kallsyms
gzip -1 < /tmp/.kallsyms > $d/kallsyms-full.gz
grep '\\[' /tmp/.kallsyms > $d/kallsyms-loaded
grep ' [tTwW] ' /tmp/.kallsyms > /tmp/.kallsyms-code; rm /tmp/.kallsyms
sha256sum < /sys/kernel/btf/vmlinux | cut -d' ' -f1 > $d/btf-vmlinux.sha256
for f in iomem version cmdline modules cgroups uptime stat; do cat /proc/$f > $d/$f; done
for f in possible online present; do cat /sys/devices/system/cpu/$f > $d/cpu-$f; done
cat /sys/kernel/vmcoreinfo > $d/vmcoreinfo 2>/dev/null
cat /proc/sys/kernel/bpf_stats_enabled > $d/bpf_stats_enabled
uname -r > $d/release; uname -m > $d/machine
cp -r /sys/kernel/sched_ext/. $d/sched_ext/ 2>/dev/null
find /sys/fs/cgroup -type d -exec stat -c '%i %n' {} + > $d/cgroup-ids
cat /tmp/loader.json > $d/loader.json 2>/dev/null || rm -f $d/loader.json
bpftool -j btf show > $d/btf-show.json 2>/dev/null
bpftool -j link show > $d/link-show.json 2>$d/link-show.err
if [ -s $d/loader.json ] && mkdir /sys/fs/cgroup/unlinked; then
  bpftool-debian cgroup attach /sys/fs/cgroup/unlinked device name z_cg_device override
  bpftool-debian cgroup attach /sys/fs/cgroup/unlinked sock_create name z_cg_sock
fi 2> $d/cgroup-attach.err
mkdir -p /tmp/pins && mount -t bpf pins /tmp/pins && mkdir /tmp/pins/in /tmp/pins/in/ner
map=$(grep -o '"id":[0-9]*' $d/loader.json | head -n 1 | grep -o '[0-9]*')
bpftool-debian map pin id $map /tmp/pins/in/ner/map
bpftool-debian map pin id $map /tmp/pins/again
bpftool-debian prog pin name z_cg_device /tmp/pins/prog
bpftool-debian link pin id $(bpftool-debian -j link show | grep -o '"id":[0-9]*,"type"' | head -n 1 | grep -o '[0-9]*') /tmp/pins/in/link
for kind in map prog link; do bpftool-debian -j -f $kind show > $d/$kind-pins.json 2>/dev/null; done
bpftool -j perf show > $d/perf-show.json 2>/dev/null
bpftool -j cgroup tree > $d/cgroup-tree.json 2>/dev/null
bpftool -j cgroup tree /sys/fs/cgroup effective > $d/cgroup-tree-effective.json 2>/dev/null
unshare -n sh -c "ip link set lo up; bpftool-debian net attach xdpgeneric name z_xdp dev lo 2> $d/net-attach.err
  stat -L -c %i /proc/self/ns/net > $d/net-other-inode
  bpftool-debian -j net show > $d/net-show-other.json; touch $d/net-other; exec sleep 1000000" > /dev/null 2>&1 &
i=0; while [ ! -e $d/net-other ] && [ $i -lt 600 ]; do usleep 100000; i=$((i+1)); done; rm $d/net-other
stat -L -c %i /proc/self/ns/net > $d/net-inode
bpftool -j net show > $d/net-show.json 2>/dev/null
bpftool net show > $d/net-show.txt 2>/dev/null
mkdir -p /tmp/token && mount -t bpf -o delegate_cmds=map_create:prog_load,delegate_maps=array,delegate_progs=any token /tmp/token 2> $d/token-mount.err
bpftool -j token list > $d/token-list.json 2>/dev/null
bpftool -j feature probe kernel > $d/feature-probe.json 2>/dev/null
bpftool -j struct_ops show > $d/struct_ops-show.json 2>/dev/null
bpftool -j struct_ops dump > $d/struct_ops-dump.json 2>/dev/null
bpftool -j map show > $d/map-list.json 2>$d/map-list.err
ids=$(grep -o '"id":[0-9]*,"type"' $d/map-list.json | grep -o '[0-9]*')
mkdir -p /tmp/.show; rm -f /tmp/.show/*
echo "$ids" | D=$d xargs -P $(nproc) -I ID sh -c 'bpftool-debian -j map show id ID > /tmp/.show/ID
  bpftool -j map dump id ID > $D/map-dump/ID.json 2> $D/map-dump/ID.err; true'
(printf '['; comma=; for id in $ids; do
  grep -q '^{"id"' /tmp/.show/$id || continue
  printf %s "$comma"; tr -d '\\n' < /tmp/.show/$id; comma=,
done; printf ']') > $d/map-show.json
bpftool -j prog show > $d/prog-show.json 2>$d/prog-show.err
mount -o bind /tmp/.kallsyms-code /proc/kallsyms
grep -o '{"id":[0-9]*,"type"' $d/prog-show.json | grep -o '[0-9]*' | D=$d xargs -P $(nproc) -I ID sh -c \
  'bpftool -j prog dump xlated id ID opcodes linum > $D/prog-dump/ID.json 2> $D/prog-dump/ID.err; true'
echo > $d/prog-dump/done
if [ -n "$CODE" ]; then
  mkdir $d/prog-jited
  grep -o '{"id":[0-9]*,"type"' $d/prog-show.json | grep -o '[0-9]*' | D=$d xargs -P $(nproc) -I ID sh -c \
    'bpftool prog dump xlated id ID linum > $D/prog-dump/ID.txt 2> $D/prog-dump/ID.txt.err
    bpftool -j prog dump jited id ID opcodes linum > $D/prog-jited/ID.json 2> $D/prog-jited/ID.err; true'
  echo > $d/prog-jited/done
fi
umount /proc/kallsyms; rm /tmp/.kallsyms-code
find $d -name '*.err' -size 0 -exec rm {} +
tar -c -C $d . | gzip -1
`;

/**
 * Collects changing data last, directly before the freeze. The counts of a task's switches (\`status\`) are read before its
 * stack: if memory has the same counts, the task has slept since then, and its stack is the one read here. The kernel writes
 * its dump of the scheduler (kernel/sched/ext, sysrq_handle_sched_ext_dump) to the trace.
 */
const lateScript = `
d=/tmp/late; rm -rf $d; mkdir -p $d/sched_ext
cat /tmp/sleepers.json > $d/sleepers.json 2>/dev/null || rm -f $d/sleepers.json
cat /tmp/stall.json > $d/stall.json 2>/dev/null || rm -f $d/stall.json
awk '{ split(FILENAME, part, "/"); print part[3], $0 }' /proc/[0-9]*/comm > $d/tasks 2>/dev/null
cat /proc/loadavg > $d/loadavg
cat /proc/schedstat > $d/schedstat 2>/dev/null
cat /sys/kernel/debug/sched/debug > $d/sched-debug 2>/dev/null
dmesg -r > $d/dmesg
timeout 1 cat /dev/kmsg > $d/kmsg
cp -r /sys/kernel/sched_ext/. $d/sched_ext/ 2>/dev/null
for f in stat cgroup status wchan stack; do head -n 200 -v /proc/[0-9]*/task/[0-9]*/$f > $d/task-$f 2>/dev/null; done
t=/sys/kernel/tracing
if [ -e $t/events/sched_ext/sched_ext_dump ]; then
  echo D > /proc/sysrq-trigger
  cat $t/trace > $d/scx-dump
fi
cat /proc/uptime > $d/uptime-last
tar -c -C $d . | gzip -1
`;

/**
 * JSON that bpftool printed. Numbers above 2^53 lose bits in `JSON.parse`; `text` has all digits. `value` is undefined if
 * the output is not valid JSON (btf_dumper.c prints a float as `(unsupported-kind)`).
 */
export interface Printed {
  readonly text: string;
  readonly value: unknown;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export interface Answers {
  /** The folder with one file per answer. */
  readonly dir: string;
  /** Returns the answer with this file name, or undefined if the guest has no such answer. */
  text(name: string): Promise<string | undefined>;
  /** Returns a JSON answer by its file name without ".json": "map-show", "prog-show", "link-show", "btf-show", "loader". */
  json(name: string): Promise<Printed | undefined>;
  /** Returns `bpftool -j map dump id N`; undefined if bpftool printed nothing (storage, ring buffers, arenas). */
  mapDump(id: number): Promise<Printed | undefined>;
  /** Returns the ids of the maps that `bpftool map show` listed. */
  mapIds(): Promise<number[]>;
  /** Returns the addresses of the collected kernel symbols by name. */
  kallsyms(): Promise<ReadonlyMap<string, bigint>>;
}

async function unpackAnswers(guest: Pick<Guest, "exec">, script: string, dir: string): Promise<void> {
  const { status, stdout, stderr } = await guest.exec(script);
  if (status !== 0) throw new LabError(`lab: collecting answers in the guest: status ${status}: ${stderr}`);
  await mkdir(dir, { recursive: true });
  await run(["tar", "-xz", "--no-same-owner", "-C", dir], { input: stdout });
}

/**
 * Collects all answers except those of `collectLate`. `withCode` adds the instructions of every program as text, and its
 * machine code, which takes minutes under emulation.
 */
export async function collectAnswers(
  guest: Pick<Guest, "exec">,
  dir: string,
  withCode = false,
): Promise<Answers> {
  await unpackAnswers(guest, `CODE=${withCode ? "yes" : ""}${collectScript}`, dir);
  const path = join(dir, "map-show.json");
  const list = await readFile(join(dir, "map-list.json"), "utf8");
  await writeWhole(path, withPids(await readFile(path, "utf8"), list));
  return openAnswers(dir);
}

/** Collects tasks, stacks, the kernel's log and its dump of the scheduler, just before the freeze. */
export async function collectLate(guest: Pick<Guest, "exec">, dir: string): Promise<void> {
  await unpackAnswers(guest, lateScript, dir);
}

/** Returns the maps of `shown` as printed there, each with the `pids` that `listed` has for it. */
export function withPids(shown: string, listed: string): string {
  const pids = new Map<string, string>();
  for (const map of listed.split(/(?=\{"id":)/)) {
    const [, id] = /^\{"id":(\d+),/.exec(map) ?? [];
    const [told] = /"pids":\[(?:\{[^}]*\},?)*\]/.exec(map) ?? [];
    if (id !== undefined && told !== undefined) pids.set(id, told);
  }
  const maps = shown.split(/(?=\{"id":)/).map((map) => {
    const told = pids.get(/^\{"id":(\d+),/.exec(map)?.[1] ?? "");
    return told === undefined ? map : map.replace(/\}(?=[,\]]*\s*$)/, `,${told}}`);
  });
  return maps.join("");
}

/** Opens the answers of an earlier run in a folder. */
export function openAnswers(dir: string): Answers {
  const text = async (name: string): Promise<string | undefined> => {
    const path = join(dir, name);
    return existsSync(path) ? readFile(path, "utf8") : undefined;
  };
  const json = async (name: string): Promise<Printed | undefined> => {
    const printed = await text(`${name}.json`);
    if (printed === undefined || printed.trim() === "") return undefined;
    return { text: printed, value: parsed(printed) };
  };
  return {
    dir,
    text,
    json,
    mapDump: (id) => json(`map-dump/${id}`),
    async mapIds(): Promise<number[]> {
      const names = await readdir(join(dir, "map-dump"));
      return names
        .filter((name) => name.endsWith(".json"))
        .map((name) => Number.parseInt(name, 10))
        .sort((a, b) => a - b);
    },
    async kallsyms(): Promise<ReadonlyMap<string, bigint>> {
      return parseKallsyms((await text("kallsyms")) ?? "");
    },
  };
}

/** Parses lines such as "ffffffffa1e00000 T _stext" into addresses by name. The first of several equal names is kept. */
export function parseKallsyms(text: string): Map<string, bigint> {
  const byName = new Map<string, bigint>();
  for (const line of text.split("\n")) {
    const [address = "", , name = ""] = line.split(/\s+/);
    if (name !== "" && !byName.has(name)) byName.set(name, BigInt(`0x${address}`));
  }
  return byName;
}
