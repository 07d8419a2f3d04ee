/**
 * A guest's userland: sid's busybox, the lab's bpftool and libraries for the guest's architecture, an init that mounts
 * what BPF needs, and the agent that runs the lab's commands. What a test adds is laid behind it as more archives.
 */
import { existsSync, realpathSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type CpioEntry, cpio } from "./cpio.ts";
import { neededBy } from "./elf-needed.ts";
import { type Arch, packageTree } from "./packages.ts";
import { LabError } from "./process.ts";

/** Everything that guests run and that their programs are linked with comes from one suite, whatever the kernel. */
const userlandPackages = [
  "busybox-static",
  "bpftool",
  "libc6",
  "libc6-dev",
  "libgcc-s1",
  "libcap2",
  "libelf1t64",
  "libelf-dev",
  "libssl3t64",
  "libzstd1",
  "libzstd-dev",
  "zlib1g",
  "zlib1g-dev",
  "libbpf1",
  "libbpf-dev",
  "linux-libc-dev",
];

/** The tree that the initramfs takes its files from; also the sysroot that programs for guests are built against. */
export async function userland(arch: Arch): Promise<string> {
  return packageTree("sid", arch, userlandPackages);
}

export const triplet: { readonly [arch in Arch]: string } = {
  amd64: "x86_64-linux-gnu",
  arm64: "aarch64-linux-gnu",
};

/** Commands of the guest: base64 of a shell script in, exit status, sizes and bytes out. `$1`: the agent's serial port. */
const init = `#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /tmp /root /var/run /sys/fs/cgroup
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ulimit -l unlimited 2>/dev/null
ip link set lo up
hostname lab
echo 1 > /proc/sys/kernel/bpf_stats_enabled
echo 0 > /proc/sys/kernel/kptr_restrict
ulimit -n 4096
if grep -q lab.shell /proc/cmdline; then
  echo "A guest of the lab. 'poweroff -f' or Ctrl-A X ends it."
  exec setsid -c sh -l </dev/console >/dev/console 2>&1
fi
port=$(sed -n 's/.*lab.port=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
exec 3<>/dev/$port
stty -F /dev/$port raw -echo 2>/dev/null
printf '@@ready\\n' >&3
while read -r id script <&3; do
  printf %s "$script" | base64 -d > /tmp/.command
  sh /tmp/.command > /tmp/.out 2> /tmp/.err < /dev/null 3>&-
  printf '@@%s %s %s %s\\n' "$id" $? $(stat -c %s /tmp/.out) $(stat -c %s /tmp/.err) >&3
  cat /tmp/.out /tmp/.err >&3
done
`;

const libraryFolders = (arch: Arch): string[] => [`usr/lib/${triplet[arch]}`, "usr/lib", "usr/lib64"];

/** A library's file in the tree; its path in the guest is where the loader looks first. */
function libraryIn(tree: string, arch: Arch, name: string): string {
  for (const folder of libraryFolders(arch))
    if (existsSync(join(tree, folder, name))) return join(tree, folder, name);
  throw new LabError(`lab: no package of the guest's userland (${arch}) holds ${name}`);
}

/** A program and, after it, every library that it needs and the seen set does not hold yet. */
export async function withLibraries(
  program: { readonly from: string; readonly to: string },
  arch: Arch,
  seen: Set<string> = new Set(),
): Promise<CpioEntry[]> {
  const tree = await userland(arch);
  const data = new Uint8Array(await readFile(program.from));
  const entries: CpioEntry[] = [{ kind: "file", path: program.to, data, executable: true }];
  const { libraries, interpreter } = neededBy(data);
  const wanted = libraries.map((name) => ({ name, to: `usr/lib/${triplet[arch]}/${basename(name)}` }));
  if (interpreter !== undefined) wanted.push({ name: basename(interpreter), to: interpreter.slice(1) });
  for (const { name, to } of wanted) {
    if (seen.has(to)) continue;
    seen.add(to);
    entries.push(
      ...(await withLibraries({ from: realpathSync(libraryIn(tree, arch, name)), to }, arch, seen)),
    );
  }
  return entries;
}

function fixedEntries(): CpioEntry[] {
  const text = new TextEncoder();
  return [
    { kind: "directory", path: "usr/lib" },
    { kind: "directory", path: "usr/lib64" },
    { kind: "directory", path: "proc" },
    { kind: "directory", path: "sys" },
    { kind: "directory", path: "dev" },
    { kind: "directory", path: "tmp" },
    { kind: "symlink", path: "lib", target: "usr/lib" },
    { kind: "symlink", path: "lib64", target: "usr/lib64" },
    { kind: "symlink", path: "sbin", target: "bin" },
    { kind: "device", path: "dev/console", major: 5, minor: 1 },
    { kind: "file", path: "etc/passwd", data: text.encode("root:x:0:0:root:/root:/bin/sh\n") },
    { kind: "file", path: "etc/group", data: text.encode("root:x:0:\n") },
    { kind: "file", path: "init", data: text.encode(init), executable: true },
  ];
}

/** Applets that the lab's scripts and people at `lab shell` use; each is a link to busybox. */
const applets =
  "sh ash mount umount mkdir rmdir rm ls cat cp mv ln echo printf sleep stat stty base64 tar gzip sha256sum sed awk grep " +
  "cut sort uniq head tail wc tr find xargs ps kill killall top free dmesg uname hostname ip ping poweroff reboot setsid " +
  "insmod lsmod rmmod taskset nice chmod touch test true false seq date id env vi less more dd hexdump cmp diff tee nproc " +
  "unshare nsenter which timeout mktemp basename dirname readlink realpath mknod sync usleep yes watch nc";

/**
 * The base archive. `bpftool`: the path of the lab's own (bpftool.ts). Debian's, of the same sources without the BPF
 * skeletons, is `bpftool-debian`: it answers fast under emulation, for it loads no program to find `pids`.
 */
export async function baseInitramfs(arch: Arch, bpftool: string): Promise<Uint8Array<ArrayBuffer>> {
  const tree = await userland(arch);
  const first = (...names: string[]): string => {
    const path = names.map((name) => join(tree, name)).find((name) => existsSync(name));
    if (path === undefined) throw new LabError(`lab: ${tree} lacks ${names[0]}`);
    return path;
  };
  const busybox = first("usr/bin/busybox", "bin/busybox");
  const debian = first("usr/sbin/bpftool", "usr/bin/bpftool");
  return cpio([
    ...fixedEntries(),
    ...(await withLibraries({ from: busybox, to: "bin/busybox" }, arch)),
    ...(await withLibraries({ from: bpftool, to: "bin/bpftool" }, arch)),
    ...(await withLibraries({ from: debian, to: "bin/bpftool-debian" }, arch)),
    ...applets
      .split(" ")
      .map((name): CpioEntry => ({ kind: "symlink", path: `bin/${name}`, target: "busybox" })),
  ]);
}
