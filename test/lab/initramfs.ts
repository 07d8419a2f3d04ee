/**
 * Builds the userland of guests: sid's busybox, the lab's bpftool and libraries for the guest's architecture, an init that
 * mounts the file systems of BPF, and the agent that runs the lab's commands. Tests append further archives.
 */
import { existsSync, realpathSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type CpioEntry, cpio } from "./cpio.ts";
import { neededBy } from "./elf-needed.ts";
import { type Arch, packageTree } from "./packages.ts";
import { LabError } from "./process.ts";

/** Programs of guests and the libraries that they are linked with come from one suite, for all kernels. */
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

/** Returns the folder with the files of the initramfs. It is also the sysroot for programs that run in guests. */
export async function userland(arch: Arch): Promise<string> {
  return packageTree("sid", arch, userlandPackages);
}

export const triplet: { readonly [arch in Arch]: string } = {
  amd64: "x86_64-linux-gnu",
  arm64: "aarch64-linux-gnu",
};

/** The guest's agent reads shell scripts in base64 and writes exit status, sizes and output. `$1` is its serial port. */
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

/** Returns a library's file in the tree. In the guest it is in the folder that the loader searches first. */
function libraryIn(tree: string, arch: Arch, name: string): string {
  for (const folder of libraryFolders(arch))
    if (existsSync(join(tree, folder, name))) return join(tree, folder, name);
  throw new LabError(`lab: no package of the guest's userland (${arch}) has ${name}`);
}

/** Returns a program, followed by the libraries that it needs and that are not in `seen`. */
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

/** Applets for the lab's scripts and for `lab shell`. Each is a link to busybox. */
const applets =
  "sh ash mount umount mkdir rmdir rm ls cat cp mv ln echo printf sleep stat stty base64 tar gzip sha256sum sed awk grep " +
  "cut sort uniq head tail wc tr find xargs ps kill killall top free dmesg uname hostname ip ping poweroff reboot setsid " +
  "insmod lsmod rmmod taskset nice chmod touch test true false seq date id env vi less more dd hexdump cmp diff tee nproc " +
  "unshare nsenter which timeout mktemp basename dirname readlink realpath mknod sync usleep yes watch nc";

/**
 * Returns the base archive. `bpftool` is the path of the lab's bpftool (bpftool.ts). Debian's bpftool is `bpftool-debian` in
 * the guest: it has the same sources without BPF skeletons, so it loads no program to find `pids` and is fast under emulation.
 */
export async function baseInitramfs(arch: Arch, bpftool: string): Promise<Uint8Array<ArrayBuffer>> {
  const tree = await userland(arch);
  const first = (...names: string[]): string => {
    const path = names.map((name) => join(tree, name)).find((name) => existsSync(name));
    if (path === undefined) throw new LabError(`lab: ${tree} does not have ${names[0]}`);
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
