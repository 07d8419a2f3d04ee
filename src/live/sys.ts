/**
 * The system calls that the live path makes and the files that it reads. `realSys` uses the running kernel; tests pass a fake
 * kernel to cover every errno.
 */
import { SyscallError } from "../errors.ts";
import * as ffi from "../ffi.ts";
import { type BpfCommand, COMMANDS } from "../uapi/bpf.ts";
import {
  EACCES,
  EAGAIN,
  EINVAL,
  EIO,
  EMFILE,
  ENFILE,
  ENOENT,
  ENOMEM,
  ENOSYS,
  EPERM,
  EPIPE,
  errnoName,
} from "../uapi/errno.ts";
import type { RouteMessage } from "../uapi/netlink.ts";
import type { Attr } from "./attr.ts";

export interface Sys {
  /** Calls bpf(2); returns 0 or more, or `-errno`. */
  bpf(command: BpfCommand, attr: Attr): number;
  close(fd: number): void;
  /** Reads a file of /proc or /sys; undefined if it cannot be read. */
  readFile(path: string): Uint8Array | undefined;
  /** Yields a file in pieces, each valid until the next; none if it cannot be read. The caller may stop early. */
  pieces(path: string): Iterable<Uint8Array>;
  /** Reads a device that returns one message per read, from the oldest until none is left; returns `-errno` on failure. */
  readMessages(path: string): readonly Uint8Array[] | number;
  /** Reads `/proc/self/fdinfo/N`; "" if there is no /proc. Throws `SyscallError` if no descriptor is left to read it. */
  readFdInfo(fd: number): string;
  /** Returns the target of a symbolic link of /proc; undefined if it cannot be read. */
  readLink(path: string): string | undefined;
  /** Returns the names in a directory; empty if it cannot be read. */
  readDirectory(path: string): readonly string[];
  mmap(options: ffi.MmapOptions): ffi.Mapping | number;
  pageSize(): number;
  /** Returns a pidfd of a process or of one thread (Linux 6.9), or `-errno`. */
  openPid(pid: number, thread: boolean): ffi.Fd | number;
  /** Returns a directory's descriptor, inode number and subdirectories, or `-errno`. */
  openDirectory(path: Uint8Array): OpenDirectory | number;
  /** Returns the name of a network device of this network namespace, NUL-padded; undefined if there is none. */
  deviceName(index: number): Uint8Array | undefined;
  /** stat(2) of this process's network namespace; undefined without /proc. */
  netns(): { readonly dev: bigint; readonly ino: bigint } | undefined;
  /** Opens a file; returns a descriptor or `-errno`. */
  openFile(path: string): ffi.Fd | number;
  /** Returns the messages of an rtnetlink dump request (src/uapi/netlink.ts), or `-errno`. */
  routeDump(request: Uint8Array<ArrayBuffer>): readonly RouteMessage[] | number;
  /** clock_gettime(2) in nanoseconds. */
  clockNs(clock: number): bigint;
}

export interface OpenDirectory {
  readonly fd: ffi.Fd;
  readonly inode: bigint;
  /** Names as bytes. */
  readonly children: readonly Uint8Array[];
}

/** Loaded on first use: loading takes 2 ms, and most commands do not need it. */
const fs = (): typeof import("node:fs") => process.getBuiltinModule("node:fs");

export const realSys: Sys = {
  bpf: (command, attr) => ffi.bpf(COMMANDS[command], attr.bytes),
  close: (fd) => void ffi.close(fd),
  readFile: readWhole,
  pieces,
  readMessages,
  readFdInfo,
  readLink(path) {
    try {
      return fs().readlinkSync(path);
    } catch {
      return undefined;
    }
  },
  readDirectory(path) {
    try {
      return fs().readdirSync(path);
    } catch {
      return [];
    }
  },
  mmap: ffi.mmap,
  pageSize: ffi.pageSize,
  openPid(pid, thread) {
    const fd = ffi.pidfdOpen(pid, thread);
    return fd < 0 ? fd : new ffi.Fd(fd, `pid ${pid}`);
  },
  openDirectory,
  deviceName: ffi.deviceName,
  netns() {
    try {
      return fs().statSync("/proc/self/ns/net", { bigint: true });
    } catch {
      return undefined;
    }
  },
  openFile(path) {
    const fd = ffi.open(path);
    return fd < 0 ? fd : new ffi.Fd(fd, path);
  },
  routeDump,
  clockNs: ffi.clockNs,
};

/** Limit on datagrams of one answer. */
const MAX_DATAGRAMS = 100_000;
/** The kernel sends at most 32 KiB at once (net/netlink/af_netlink.c, `netlink_dump`). */
const DATAGRAM_BYTES = 65_536;

function routeDump(request: Uint8Array<ArrayBuffer>): readonly RouteMessage[] | number {
  const { messagesOf } = require("../uapi/netlink.ts") as typeof import("../uapi/netlink.ts");
  const number = ffi.routeSocket();
  if (number < 0) return number;
  using fd = new ffi.Fd(number, "a socket of rtnetlink");
  const sent = ffi.write(fd.number, request);
  if (sent < 0) return sent;
  const all: RouteMessage[] = [];
  for (let count = 0; count < MAX_DATAGRAMS; count++) {
    const datagram = new Uint8Array(new ArrayBuffer(DATAGRAM_BYTES));
    const got = ffi.read(fd.number, datagram);
    if (got <= 0) return got < 0 ? got : all;
    const { messages, end } = messagesOf(datagram.subarray(0, got), request);
    all.push(...messages);
    if (end !== undefined) return end < 0 ? end : all;
  }
  return all;
}

function openDirectory(path: Uint8Array): OpenDirectory | number {
  const where = Buffer.from(path);
  let fd: ffi.Fd | undefined;
  try {
    const { constants, fstatSync, openSync } = fs();
    fd = new ffi.Fd(openSync(where, constants.O_RDONLY | constants.O_DIRECTORY), "a directory");
    const { ino: inode } = fstatSync(fd.number, { bigint: true });
    return { fd, inode, children: childDirectories(where) };
  } catch (error) {
    fd?.[Symbol.dispose]();
    return (error as NodeJS.ErrnoException).errno ?? -EIO;
  }
}

/** readdir gives file types only with decoded names; a name that is not UTF-8 is opened to find its type. */
function childDirectories(path: Buffer): Uint8Array[] {
  const names = fs()
    .readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
  const isText = (name: string): boolean => !name.includes("\ufffd");
  const children: Uint8Array[] = names.filter(isText).map((name) => Buffer.from(name));
  if (names.every(isText)) return children;
  for (const name of fs().readdirSync(path, { encoding: "buffer" })) {
    if (!isText(name.toString())) children.push(name);
  }
  return children;
}

const scratch = new Uint8Array(new ArrayBuffer(16_384));

/**
 * Reads a small file until a read returns nothing. stat(2) is not used: files of /proc have size 0, those of /sys the page
 * size.
 */
function readWhole(path: string): Uint8Array | undefined {
  const fd = ffi.open(path);
  if (fd < 0) return undefined;
  try {
    let used = 0;
    while (used < scratch.length) {
      const got = ffi.pread(fd, scratch.subarray(used), used);
      if (got < 0) return undefined;
      if (got === 0) return scratch.slice(0, used);
      used += got;
    }
    return fs().readFileSync(path);
  } catch {
    return undefined;
  } finally {
    ffi.close(fd);
  }
}

const PIECE_BYTES = 128 * 1024;

/** Files of /proc return a page per read. */
function* pieces(path: string): Generator<Uint8Array> {
  const fd = ffi.open(path);
  if (fd < 0) return;
  const piece = new Uint8Array(new ArrayBuffer(PIECE_BYTES));
  try {
    for (let at = 0, used = 0, got = 1; got > 0; ) {
      got = ffi.pread(fd, piece.subarray(used), at + used);
      if (got > 0) used += got;
      if (used === 0 || (got > 0 && used < PIECE_BYTES)) continue;
      yield piece.subarray(0, used);
      at += used;
      used = 0;
    }
  } finally {
    ffi.close(fd);
  }
}

/** The largest ring has 2^20 records; each read returns one or reports that it was overwritten. */
const MAX_MESSAGES = 2 ** 21;

function readMessages(path: string): readonly Uint8Array[] | number {
  const fd = ffi.open(path, ffi.O_NONBLOCK);
  if (fd < 0) return fd;
  const messages: Uint8Array[] = [];
  try {
    for (let reads = 0; reads < MAX_MESSAGES; reads++) {
      const got = ffi.pread(fd, scratch, 0);
      if (got === -EAGAIN || got === 0) break;
      // The record was overwritten; the next read returns the oldest that is left (devkmsg_read).
      if (got === -EPIPE) continue;
      if (got < 0) return got;
      messages.push(scratch.slice(0, got));
    }
    return messages;
  } finally {
    ffi.close(fd);
  }
}

/** The open fdinfo file of the last descriptor number. */
const fdInfo = { of: -1, file: -1, text: Buffer.alloc(4096) };

/**
 * The kernel looks up the descriptor at each read of its fdinfo file (fs/proc/fd.c, `seq_show`). Objects that are opened and
 * closed in turn get the same number, so the file stays open: reading takes a quarter of the time of opening it again. This
 * keeps one descriptor until the process ends.
 */
function readFdInfo(fd: number): string {
  if (fdInfo.of !== fd || fdInfo.file < 0) {
    if (fdInfo.file >= 0) ffi.close(fdInfo.file);
    const path = `/proc/self/fdinfo/${fd}`;
    fdInfo.file = ffi.open(path);
    fdInfo.of = fd;
    const errno = -fdInfo.file;
    // Other errors mean that there is no /proc.
    if (isTableFull(errno)) throw new SyscallError("open", path, errno, errnoName(errno), hintFor("", errno));
  }
  const got = fdInfo.file < 0 ? 0 : ffi.pread(fdInfo.file, fdInfo.text, 0);
  return got > 0 ? fdInfo.text.toString("latin1", 0, got) : "";
}

/** No descriptor is left, so every further open fails. */
export function isTableFull(errno: number): boolean {
  return errno === EMFILE || errno === ENFILE;
}

/** Returns the privilege that a command needs, for the hint of an EPERM. */
function privilegeFor(command: string): string {
  if (command.endsWith("_GET_NEXT_ID") || command.endsWith("_GET_FD_BY_ID")) return "CAP_SYS_ADMIN";
  if (command === "BPF_TASK_FD_QUERY") return "CAP_SYS_ADMIN";
  if (command === "BPF_PROG_QUERY") return "CAP_NET_ADMIN";
  if (command === "BPF_ENABLE_STATS") return "CAP_SYS_ADMIN";
  if (command === "BPF_PROG_LOAD") return "CAP_BPF and CAP_PERFMON";
  return "CAP_BPF";
}

const needs = (command: string): string => `${command} needs ${privilegeFor(command)}: run as root`;

/**
 * Before 5.11 the memory of maps and programs counts towards RLIMIT_MEMLOCK, and EPERM also means that it is too low
 * (kernel/bpf/syscall.c, `bpf_charge_memlock`).
 */
function hintForPermission(command: string): string {
  const isCharged = command === "BPF_MAP_CREATE" || command === "BPF_PROG_LOAD";
  if (!isCharged || process.geteuid?.() !== 0) return needs(command);
  return `${command} needs ${privilegeFor(command)}; before Linux 5.11 also a higher RLIMIT_MEMLOCK (\`ulimit -l\`)`;
}

function hintFor(command: string, errno: number): string {
  switch (errno) {
    case EACCES:
      // The kernel returns EACCES also for a path outside a bpf file system (kernel/bpf/inode.c, `bpf_inode_type`).
      if (command === "BPF_OBJ_GET")
        return "pins are in a bpf file system, such as /sys/fs/bpf, and this user must be allowed to open them";
      return needs(command);
    case EPERM:
      return hintForPermission(command);
    case EINVAL:
      return command.startsWith("BPF_LINK")
        ? "kernels before 5.8 have no link ids"
        : "this kernel may be too old for the command, or so new that the command needs more fields";
    case ENOSYS:
      return "this kernel was built without CONFIG_BPF_SYSCALL";
    case EMFILE:
      return "too many open files in this process: raise RLIMIT_NOFILE (`ulimit -n`)";
    case ENFILE:
      return "too many open files in the whole system: raise fs.file-max";
    case ENOMEM:
      return "the kernel has no memory for it, or the memory cgroup of this process is full";
    case ENOENT:
      return "it was freed, or never existed";
    default:
      return "";
  }
}

/** Returns the error of a failed bpf command with a hint. */
export function bpfError(command: BpfCommand, object: string, result: number): SyscallError {
  return new SyscallError(command, object, -result, errnoName(-result), hintFor(command, -result));
}

/** Calls bpf(2); throws `bpfError` on failure. */
export function bpfOrThrow(sys: Sys, command: BpfCommand, attr: Attr, object: string): number {
  const result = sys.bpf(command, attr);
  if (result < 0) throw bpfError(command, object, result);
  return result;
}
