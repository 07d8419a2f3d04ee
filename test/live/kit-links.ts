/** Links of the tests, and the objects that they attach to: devices, cgroups, perf events. */
import { mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { Attr } from "../../src/live/attr.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { type Layout, layout, u32, u64 } from "../../src/uapi/layout.ts";
import type { ATTACH_TYPES } from "../../src/uapi/names.ts";
import { run } from "../btf/support/live.ts";
import { kernelBtf } from "../uapi/support.ts";
import { type Held, type HeldMap, type Kit, must, text } from "./kit.ts";
import { attachType, kernelType, loadProg, someTypes } from "./kit-progs.ts";

/** The member of `union bpf_attr` for BPF_LINK_CREATE: the common fields, and the 48 bytes of each type. */
const LINK_ATTR: Layout<"prog_fd" | "target" | "attach_type" | "flags"> = layout(
  "union bpf_attr.link_create",
  64,
  {
    prog_fd: u32(0),
    target: u32(4),
    attach_type: u32(8),
    flags: u32(12),
  },
);

const OPEN_ATTR: Layout<"name" | "prog_fd" | "cookie"> = layout("union bpf_attr.raw_tracepoint", 24, {
  name: u64(0),
  prog_fd: u32(8),
  cookie: u64(16),
});

export interface LinkOptions {
  readonly attach: (typeof ATTACH_TYPES)[number];
  /** A descriptor or an interface index. */
  readonly target?: number;
  readonly flags?: number;
  /** Bytes after the first 16. The caller keeps the memory that they point to alive. */
  readonly arm?: Uint8Array;
}

export function createLink(kit: Kit, object: Held, options: LinkOptions): Held {
  const attr = new Attr(LINK_ATTR, {
    prog_fd: object.fd,
    target: options.target ?? 0,
    attach_type: attachType(options.attach),
    flags: options.flags ?? 0,
  });
  attr.bytes.set(options.arm ?? [], 16);
  return kit.own(must("BPF_LINK_CREATE", attr, options.attach), "link_id");
}

/** If `name` is undefined, the program's own attributes give the place. */
export function openRawTracepoint(kit: Kit, prog: Held, name?: string): Held {
  const attr = new Attr(OPEN_ATTR, { prog_fd: prog.fd });
  if (name !== undefined) attr.point("name", text(name));
  return kit.own(must("BPF_RAW_TRACEPOINT_OPEN", attr, name), "link_id");
}

/** Creates a network device for this test; returns its name and index. */
export function addDevice(kit: Kit): { name: string; ifindex: number } {
  const name = `kt${process.pid % 100_000}${Math.random().toString(36).slice(2, 5)}`;
  run("ip", "link", "add", name, "type", "veth", "peer", "name", `${name}p`);
  kit.defer(() => void run("ip", "link", "del", name));
  return { name, ifindex: Number(readFileSync(`/sys/class/net/${name}/ifindex`, "latin1")) };
}

/** Returns the mount point of cgroup2; undefined if there is none. */
export function cgroup2Root(): string | undefined {
  const mounts = readFileSync("/proc/self/mounts", "latin1").split("\n");
  return mounts.map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2")?.[1];
}

/** Creates a cgroup under the root and returns its path. */
export function addCgroup(kit: Kit, name: string | Uint8Array = `ktstr-test-${process.pid}`): Buffer {
  const root = cgroup2Root();
  if (root === undefined) throw new Error("cgroup2 is not mounted");
  const path = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name)]);
  mkdirSync(path);
  kit.defer(() => rmdirSync(path));
  return path;
}

/** The needed part of `struct perf_event_attr`. `paths` are pointed to from the bytes of these offsets. */
export interface PerfEvent {
  readonly type: number;
  readonly config: number;
  readonly period?: number;
  /** config1 points to this path, config2 is an offset in it: a uprobe. */
  readonly path?: string;
  readonly offset?: number;
}

/** Calls perf_event_open, bpf(BPF_OBJ_GET), bpf(BPF_LINK_CREATE) and bpf(BPF_OBJ_PIN) in one process. */
const PERF_SCRIPT = `
my ($type, $config, $period, $path, $offset, $cookie, $prog, $link) = @ARGV;
my $at = $path eq "" ? pack("Q", 0) : pack("P", $path);
my $attr = pack("LLQQQQQLL", $type, 128, $config, $period, 0, 0, 0, 0, 0) . $at . pack("Q", $offset);
$attr .= "\\0" x (128 - length $attr);
my $perf = syscall(298, $attr, -1, 0, -1, 0);
die "perf_event_open: $!\\n" if $perf < 0;
my $get = pack("PLL", $prog, 0, 0);
my $fd = syscall(321, 7, $get, length $get);
die "BPF_OBJ_GET: $!\\n" if $fd < 0;
my $create = pack("LLLLQ", $fd, $perf, 41, 0, $cookie);
my $made = syscall(321, 28, $create, length $create);
die "BPF_LINK_CREATE: $!\\n" if $made < 0;
my $pin = pack("PLL", $link, $made, 0);
die "BPF_OBJ_PIN: $!\\n" if syscall(321, 6, $pin, length $pin) < 0;
`;

let pins = 0;

/** Creates a perf_event link, held by its pin, and returns the path. Needs perl and x86-64. */
export function linkPerfEvent(kit: Kit, prog: Held, event: PerfEvent, cookie = 0): string {
  const link = `${kit.bpffs}/perf_link_${++pins}`;
  const { type, config, period = 0, path = "", offset = 0 } = event;
  run(
    ...["perl", "-e", PERF_SCRIPT, "--", `${type}`, `${config}`, `${period}`, path, `${offset}`, `${cookie}`],
    ...[kit.pin(prog, `perf_prog_${pins}`), link],
  );
  return link;
}

/** Creates a congestion control that does nothing: a struct_ops map with its three mandatory callbacks. */
export function addCongestionControl(
  kit: Kit,
  name: string,
): { map: HeldMap; progs: Held[]; value: Uint8Array } {
  const ops = kernelType("tcp_congestion_ops", BTF_KIND.STRUCT);
  const wrapper = kernelType("bpf_struct_ops_tcp_congestion_ops", BTF_KIND.STRUCT);
  const valueSize = kernelBtf().sizeOf(wrapper);
  const BPF_F_LINK = 0x2000;
  const map = kit.map({
    ...{ type: "struct_ops", name, valueSize, maxEntries: 1, flags: BPF_F_LINK },
    // The kernel requires BTF of the loader, but does not use it.
    ...{ btfVmlinuxValueTypeId: wrapper, btfFd: someTypes(kit).btf.fd },
  });
  const value = new Uint8Array(valueSize);
  const view = new DataView(value.buffer);
  const data = kernelBtf().member(wrapper, "data")?.byteOffset ?? 0;
  const members = [...kernelBtf().members(ops)];
  const progs = ["ssthresh", "cong_avoid", "undo_cwnd"].map((callback) => {
    const expected = members.findIndex((member) => member.name === callback);
    const prog = loadProg(kit, { type: "struct_ops", name: callback, attachBtfId: ops, expected });
    view.setBigUint64(data + (members[expected]?.bitOffset ?? 0) / 8, BigInt(prog.fd), true);
    return prog;
  });
  value.set(Buffer.from(name), data + (kernelBtf().member(ops, "name")?.byteOffset ?? 0));
  kit.update(map, new Uint8Array(4), value);
  return { map, progs, value };
}
