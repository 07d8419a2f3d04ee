/** Probes the features of the running kernel with the same programs and maps as libbpf's `libbpf_probes.c` and bpftool's `feature.c`. */
import { gunzipSync } from "node:zlib";
import { type Features, LOGGING_HELPERS, type MiscFeature, type Sysctl } from "../features.ts";
import { type Fd, Fd as OwnedFd } from "../ffi.ts";
import { BTF_LOAD_ATTR, MAP_CREATE_ATTR, PROG_LOAD_ATTR } from "../uapi/bpf.ts";
import { EAGAIN, EINVAL, ENOSYS, ENOTSUPP, EPERM } from "../uapi/errno.ts";
import { HELPERS } from "../uapi/helpers.ts";
import { BPF_F_SLEEPABLE, call, exit, INSN_BYTES, insn, set } from "../uapi/insn.ts";
import { cutAtNul } from "../uapi/layout.ts";
import {
  ATTACH_TYPES,
  BPF_F_MMAPABLE,
  BPF_F_NO_PREALLOC,
  MAP_TYPES,
  MapType,
  PROG_TYPES,
  ProgType,
} from "../uapi/names.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import { bpfError, type Sys } from "./sys.ts";

/** Throws `SyscallError` if this process may not load programs. */
export function probeFeatures(sys: Sys, release: string, full: boolean): Features {
  // The kernel accepts this program from every process that may load programs.
  const first = load(sys, ProgType.socket_filter, [set(0, 0), exit()]).result;
  if (first === -EPERM) throw bpfError("BPF_PROG_LOAD", "a probe program", first);
  const hasSyscall = first !== -ENOSYS;
  const problems: string[] = [];
  const config = readConfig(sys, release);
  if (config === undefined)
    problems.push(
      `the kernel's configuration: neither /boot/config-${release} nor /proc/config.gz can be read`,
    );
  const progTypes = PROG_TYPES.map((_, type) => type > 0 && hasSyscall && hasProgType(sys, type));
  return {
    sysctls: {
      unprivileged_bpf_disabled: sysctl(sys, "kernel", "unprivileged_bpf_disabled"),
      bpf_jit_enable: sysctl(sys, "net/core", "bpf_jit_enable"),
      bpf_jit_harden: sysctl(sys, "net/core", "bpf_jit_harden"),
      bpf_jit_kallsyms: sysctl(sys, "net/core", "bpf_jit_kallsyms"),
      bpf_jit_limit: sysctl(sys, "net/core", "bpf_jit_limit"),
    },
    config,
    hasSyscall,
    progTypes,
    mapTypes: MAP_TYPES.map((_, type) => type > 0 && hasSyscall && hasMapType(sys, type)),
    helpers: progTypes.map((has, type) => (has ? helpersOf(sys, type, full) : [])),
    misc: misc(sys),
    helperCount: undefined,
    problems,
  };
}

function sysctl(sys: Sys, folder: string, name: Sysctl): number {
  const text = sys.readFile(`/proc/sys/${folder}/${name}`);
  if (text === undefined) return -1;
  const number = /^\s*(-?\d+)\n/.exec(Buffer.from(text).toString("latin1"));
  return number === null ? -1 : Number(number[1]);
}

/** Second line of every kernel configuration. A file without it is not one. */
const CONFIG_MARK = "# Automatically generated file; DO NOT EDIT.";
/** Size limit; a configuration has about 250 KiB. */
const MAX_CONFIG_BYTES = 64 * 1024 * 1024;

function readConfig(sys: Sys, release: string): string | undefined {
  for (const path of [`/boot/config-${release}`, "/proc/config.gz"]) {
    const bytes = sys.readFile(path);
    if (bytes === undefined) continue;
    try {
      const isPacked = bytes[0] === 0x1f && bytes[1] === 0x8b;
      const whole = isPacked ? gunzipSync(bytes, { maxOutputLength: MAX_CONFIG_BYTES }) : bytes;
      const text = Buffer.from(whole).toString("latin1");
      return text.split("\n", 2)[1] === CONFIG_MARK ? text : undefined;
    } catch {
      return undefined;
    }
  }
  return undefined;
}

interface LoadOptions {
  readonly attachType?: (typeof ATTACH_TYPES)[number];
  readonly attachBtfId?: number;
  readonly flags?: number;
  readonly hasLog?: boolean;
}

const LICENSE = pinned(8);
LICENSE.set(Buffer.from("GPL\0"));
/** Size as in libbpf. Longer verifier output is truncated or gives ENOSPC. */
const LOG = pinned(4096);
/** As in libbpf. */
const LOAD_ATTEMPTS = 5;

/** Loads a program and closes its descriptor. `result` is 0 or more if the kernel accepted it. */
function load(
  sys: Sys,
  type: number,
  code: readonly Uint8Array[],
  { attachType, attachBtfId = 0, flags = 0, hasLog = false }: LoadOptions = {},
): { result: number; log: string } {
  const bytes = Buffer.concat(code);
  const insns = pinned(bytes.length);
  insns.set(bytes);
  LOG.fill(0);
  const attr = new Attr(PROG_LOAD_ATTR, {
    prog_type: type,
    insn_cnt: bytes.length / INSN_BYTES,
    prog_flags: flags,
    expected_attach_type: attachType === undefined ? 0 : ATTACH_TYPES.indexOf(attachType),
    attach_btf_id: attachBtfId,
    log_level: hasLog ? 1 : 0,
    log_size: hasLog ? LOG.length : 0,
  })
    .point("insns", insns)
    .point("license", LICENSE)
    .point("log_buf", hasLog ? LOG : undefined);
  let result = -EAGAIN;
  for (let attempt = 0; attempt < LOAD_ATTEMPTS && result === -EAGAIN; attempt++)
    result = sys.bpf("BPF_PROG_LOAD", attr);
  if (result >= 0) sys.close(result);
  return { result, log: hasLog ? Buffer.from(cutAtNul(LOG)).toString("latin1") : "" };
}

/** Additional load options of a type. `refusal` is the error of a kernel that has the type. */
interface Probe extends LoadOptions {
  readonly refusal?: { readonly errno: number; readonly words: string };
}

const PROBES: Readonly<Record<number, Probe>> = {
  [ProgType.cgroup_sock_addr]: { attachType: "cgroup_inet4_connect" },
  [ProgType.cgroup_sockopt]: { attachType: "cgroup_getsockopt" },
  [ProgType.sk_lookup]: { attachType: "sk_lookup" },
  [ProgType.lirc_mode2]: { attachType: "lirc_mode2" },
  [ProgType.netfilter]: { attachType: "netfilter" },
  [ProgType.syscall]: { flags: BPF_F_SLEEPABLE },
  [ProgType.tracing]: {
    ...{ attachType: "trace_fentry", attachBtfId: 1, hasLog: true },
    refusal: { errno: EINVAL, words: "attach_btf_id 1 is not a function" },
  },
  [ProgType.lsm]: {
    ...{ attachType: "modify_return", attachBtfId: 1, hasLog: true },
    refusal: { errno: EINVAL, words: "attach_btf_id 1 is not a function" },
  },
  [ProgType.ext]: {
    ...{ attachBtfId: 1, hasLog: true },
    refusal: { errno: EINVAL, words: "Cannot replace kernel functions" },
  },
  [ProgType.struct_ops]: { refusal: { errno: ENOTSUPP, words: "" } },
};

function hasProgType(sys: Sys, type: number): boolean {
  const probe = PROBES[type] ?? {};
  const { result, log } = load(sys, type, [set(0, 0), exit()], probe);
  if (probe.refusal === undefined) return result >= 0;
  return result === -probe.refusal.errno && log.includes(probe.refusal.words);
}

/** Types whose programs the kernel rejects before it checks helpers. */
const WITHOUT_HELPERS: readonly number[] = [
  ProgType.tracing,
  ProgType.ext,
  ProgType.lsm,
  ProgType.struct_ops,
];
const UNKNOWN_HELPER = /invalid func |unknown func |program of this type cannot use helper /;

/** A helper counts as present if the verifier accepts it or rejects it for another reason than an unknown helper. */
function helpersOf(sys: Sys, type: number, full: boolean): number[] {
  if (WITHOUT_HELPERS.includes(type)) return [];
  const probe = { ...PROBES[type], hasLog: true };
  const all: number[] = [];
  for (const [id, name] of HELPERS.entries()) {
    if (id === 0 || (!full && LOGGING_HELPERS.includes(name))) continue;
    const { result, log } = load(sys, type, [call(id), exit()], probe);
    if (result >= 0 || !UNKNOWN_HELPER.test(log)) all.push(id);
  }
  return all;
}

/** Instruction limit of kernels before 5.2 (BPF_MAXINSNS). */
const OLD_LIMIT = 4096;

/** Loads one program per feature, as bpftool does. The jump instructions identify the version of the instruction set. */
function misc(sys: Sys): Record<MiscFeature, boolean> {
  const takes = (...code: Uint8Array[]): boolean => load(sys, ProgType.socket_filter, code).result >= 0;
  const jump = (opcode: number, offset: number, immediate: number): Uint8Array =>
    insn(opcode, 0, 0, offset, immediate);
  return {
    large_insn_limit: takes(...Array.from({ length: OLD_LIMIT }, () => set(0, 1)), exit()),
    bounded_loops: takes(set(0, 10), insn(0x17, 0, 0, 0, 1), jump(0x55, -2, 0), exit()),
    v2_isa_extension: takes(set(0, 0), jump(0xa5, 1, 0), set(0, 1), exit()),
    v3_isa_extension: takes(set(0, 0), jump(0xa6, 1, 0), set(0, 1), exit()),
    v4_isa_extension: takes(set(0, 0), jump(0x16, 1, 1), jump(0x06, 0, 1), set(0, 1), exit()),
  };
}

/** Members of `union bpf_attr` for BPF_MAP_CREATE. */
type MapShape = Partial<Record<keyof typeof MAP_CREATE_ATTR.fields, number>>;

const HASH_SHAPE = { key_size: 4, value_size: 4, max_entries: 1 };

const createMap = (sys: Sys, shape: MapShape): number =>
  sys.bpf("BPF_MAP_CREATE", new Attr(MAP_CREATE_ATTR, shape));

/** Map attributes of a type that differ from a hash's with one element. */
function shapeOf(sys: Sys, type: number): MapShape {
  switch (type) {
    case MapType.stack_trace:
      return { value_size: 8 };
    case MapType.lpm_trie:
      return { key_size: 8, value_size: 8, map_flags: BPF_F_NO_PREALLOC };
    case MapType.rhash:
      return { map_flags: BPF_F_NO_PREALLOC };
    case MapType.cgroup_storage:
    case MapType.percpu_cgroup_storage:
      return { key_size: 16, value_size: 8, max_entries: 0 };
    case MapType.queue:
    case MapType.stack:
    case MapType.bloom_filter:
      return { key_size: 0 };
    case MapType.ringbuf:
    case MapType.user_ringbuf:
      return { key_size: 0, value_size: 0, max_entries: sys.pageSize() };
    case MapType.struct_ops:
      // -1 is not a valid descriptor. Kernels before 6.9 do not know the field.
      return { btf_vmlinux_value_type_id: 1, value_type_btf_obj_fd: 2 ** 32 - 1 };
    case MapType.arena:
      return { key_size: 0, value_size: 0, map_flags: BPF_F_MMAPABLE };
    case MapType.insn_array:
      // `struct bpf_insn_array_value`
      return { value_size: 16 };
    default:
      return {};
  }
}

const STORAGE_TYPES: readonly number[] = [
  MapType.sk_storage,
  MapType.inode_storage,
  MapType.task_storage,
  MapType.cgrp_storage,
];

function hasMapType(sys: Sys, type: number): boolean {
  using needed = new ProbeObjects(sys);
  let shape: MapShape = { map_type: type, ...HASH_SHAPE, ...shapeOf(sys, type) };
  if (STORAGE_TYPES.includes(type)) {
    const btf = needed.keep(loadStorageBtf(sys));
    if (btf < 0) return false;
    const types = { btf_fd: btf, btf_key_type_id: 1, btf_value_type_id: 3 };
    shape = { ...shape, ...types, value_size: 8, max_entries: 0, map_flags: BPF_F_NO_PREALLOC };
  }
  if (type === MapType.array_of_maps || type === MapType.hash_of_maps) {
    const inner = needed.keep(createMap(sys, { map_type: MapType.hash, ...HASH_SHAPE }));
    if (inner < 0) return false;
    shape = { ...shape, inner_map_fd: inner };
  }
  const result = needed.keep(createMap(sys, shape));
  return type === MapType.struct_ops ? result === -ENOTSUPP : result >= 0;
}

/** Keeps the descriptors of a probe open until it ends. */
class ProbeObjects implements Disposable {
  readonly #sys: Sys;
  readonly #fds: Fd[] = [];

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  keep(result: number): number {
    if (result >= 0) this.#fds.push(new OwnedFd(result, "a probe object", this.#sys.close));
    return result;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) fd[Symbol.dispose]();
  }
}

/** Loads the BTF of a storage map: `int`, `struct bpf_spin_lock { int val; }`, `struct val { int cnt; struct bpf_spin_lock l; }`. */
function loadStorageBtf(sys: Sys): number {
  const strings = Buffer.from("\0bpf_spin_lock\0val\0cnt\0l\0");
  const [INT, STRUCT] = [1 << 24, 4 << 24];
  const types = Uint32Array.of(
    ...[0, INT, 4, (1 << 24) | 32],
    ...[1, STRUCT | 1, 4, 15, 1, 0],
    ...[15, STRUCT | 2, 8, 19, 1, 0, 23, 2, 32],
  );
  const header = Uint32Array.of(0x0001_eb9f, 24, 0, types.byteLength, types.byteLength, strings.length);
  const bytes = Buffer.concat([header, types].map((part) => Buffer.from(part.buffer)).concat(strings));
  const btf = pinned(bytes.length);
  btf.set(bytes);
  return sys.bpf("BPF_BTF_LOAD", new Attr(BTF_LOAD_ATTR, { btf_size: btf.length }).point("btf", btf));
}
