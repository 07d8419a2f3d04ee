/**
 * The running kernel as this directory sees it. One implementation asks the real one; tests bring their own, to
 * show every errno that a kernel will not show on demand.
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
  /** `bpf(2)`: a result from 0 up, or `-errno`. */
  bpf(command: BpfCommand, attr: Attr): number;
  close(fd: number): void;
  /** A file of /proc or /sys as bytes; undefined where it cannot be read. */
  readFile(path: string): Uint8Array | undefined;
  /** The same in pieces, each valid until the next, for a reader that may have enough of it early; none where it cannot be read. */
  pieces(path: string): Iterable<Uint8Array>;
  /** A device that gives one message a read, from its oldest on until none is left; or `-errno`. */
  readMessages(path: string): readonly Uint8Array[] | number;
  /**
   * What `/proc/self/fdinfo/N` says of a descriptor; "" where there is no /proc. Throws `SyscallError` where no
   * descriptor is left to read it through.
   */
  readFdInfo(fd: number): string;
  /** Where a symbolic link of /proc leads; undefined where it cannot be read. */
  readLink(path: string): string | undefined;
  /** A directory's names; empty where it cannot be read. */
  readDirectory(path: string): readonly string[];
  mmap(options: ffi.MmapOptions): ffi.Mapping | number;
  pageSize(): number;
  /** A pidfd of a process, or of one thread (Linux 6.9), or `-errno`. */
  openPid(pid: number, thread: boolean): ffi.Fd | number;
  /** A directory's descriptor, its inode number and the directories in it, or `-errno`. */
  openDirectory(path: Uint8Array): OpenDirectory | number;
  /** The name of a network device of our own network namespace, with NULs behind it; undefined: there is none. */
  deviceName(index: number): Uint8Array | undefined;
  /** What stat(2) tells of our own network namespace's file; undefined without /proc. */
  netns(): { readonly dev: bigint; readonly ino: bigint } | undefined;
  /** A descriptor of a file, or `-errno`. */
  openFile(path: string): ffi.Fd | number;
  /** What the kernel answers to a dump request of rtnetlink (src/uapi/netlink.ts), or `-errno`. */
  routeDump(request: Uint8Array<ArrayBuffer>): readonly RouteMessage[] | number;
  /** clock_gettime(2) in nanoseconds. */
  clockNs(clock: number): bigint;
}

export interface OpenDirectory {
  readonly fd: ffi.Fd;
  readonly inode: bigint;
  /** Names in whatever bytes they have. */
  readonly children: readonly Uint8Array[];
}

/** Loaded with the first use: it takes 2 ms, and most commands need none of it. */
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

/** More messages than a machine has devices, and more datagrams than they fill. */
const MAX_DATAGRAMS = 100_000;
/** The kernel gives at most 32 KiB at once (net/netlink/af_netlink.c, `netlink_dump`). */
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

/** Entries tell their kind only where their names are text; a name that is not UTF-8 has to be opened for it. */
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
 * Files of /proc say that they are empty, and those of /sys give a page at a time: what is small is read until
 * nothing comes, which costs one call more than it must and no look at its size.
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

/** Files of /proc give a page at a time. */
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

/** A ring of 2^20 records is the largest there is; each read takes one, or tells that it was overwritten. */
const MAX_MESSAGES = 2 ** 21;

function readMessages(path: string): readonly Uint8Array[] | number {
  const fd = ffi.open(path, ffi.O_NONBLOCK);
  if (fd < 0) return fd;
  const messages: Uint8Array[] = [];
  try {
    for (let reads = 0; reads < MAX_MESSAGES; reads++) {
      const got = ffi.pread(fd, scratch, 0);
      if (got === -EAGAIN || got === 0) break;
      // The record was overwritten, and the next read gives the oldest that is left (devkmsg_read).
      if (got === -EPIPE) continue;
      if (got < 0) return got;
      messages.push(scratch.slice(0, got));
    }
    return messages;
  } finally {
    ffi.close(fd);
  }
}

/** The fdinfo file of the descriptor number that was asked for last. */
const fdInfo = { of: -1, file: -1, text: Buffer.alloc(4096) };

/**
 * The kernel looks a number up anew at each read of its fdinfo file (fs/proc/fd.c, `seq_show`), and objects that are
 * opened and closed one after the other all get the same number. So the file stays open: a read of it costs a quarter
 * of opening it again. One descriptor is kept for that, until the process ends.
 */
function readFdInfo(fd: number): string {
  if (fdInfo.of !== fd || fdInfo.file < 0) {
    if (fdInfo.file >= 0) ffi.close(fdInfo.file);
    const path = `/proc/self/fdinfo/${fd}`;
    fdInfo.file = ffi.open(path);
    fdInfo.of = fd;
    const errno = -fdInfo.file;
    // Everything else means that there is no /proc, and then nobody knows what stands there.
    if (isTableFull(errno)) throw new SyscallError("open", path, errno, errnoName(errno), hintFor("", errno));
  }
  const got = fdInfo.file < 0 ? 0 : ffi.pread(fdInfo.file, fdInfo.text, 0);
  return got > 0 ? fdInfo.text.toString("latin1", 0, got) : "";
}

/** No descriptor is left: whatever is opened next fails, too. */
export function isTableFull(errno: number): boolean {
  return errno === EMFILE || errno === ENFILE;
}

/** What each command needs, for the hint behind an EPERM. */
function privilegeFor(command: string): string {
  if (command.endsWith("_GET_NEXT_ID") || command.endsWith("_GET_FD_BY_ID")) return "CAP_SYS_ADMIN";
  if (command === "BPF_TASK_FD_QUERY") return "CAP_SYS_ADMIN";
  if (command === "BPF_PROG_QUERY") return "CAP_NET_ADMIN";
  if (command === "BPF_ENABLE_STATS") return "CAP_SYS_ADMIN";
  if (command === "BPF_PROG_LOAD") return "CAP_BPF and CAP_PERFMON";
  return "CAP_BPF";
}

const needs = (command: string): string => `${command} needs ${privilegeFor(command)}: run as root`;

function hintFor(command: string, errno: number): string {
  switch (errno) {
    case EACCES:
      // Of a path that lies elsewhere, too (kernel/bpf/inode.c, `bpf_inode_type`).
      if (command === "BPF_OBJ_GET")
        return "pins lie in a bpf file system, such as /sys/fs/bpf, and this user must be allowed to open them";
      return needs(command);
    case EPERM:
      return needs(command);
    case EINVAL:
      return command.startsWith("BPF_LINK")
        ? "kernels before 5.8 have no link ids"
        : "this kernel may be too old for the command, or a newer one that wants more";
    case ENOSYS:
      return "this kernel was built without CONFIG_BPF_SYSCALL";
    case EMFILE:
      return "too many open files in this process: raise RLIMIT_NOFILE (`ulimit -n`)";
    case ENFILE:
      return "too many open files in the whole system: raise fs.file-max";
    case ENOMEM:
      return "the kernel has no memory for it; a memlock limit counts here before 5.11 (`ulimit -l unlimited`)";
    case ENOENT:
      return "it is gone, or was never there";
    default:
      return "";
  }
}

/** The error of a failed bpf command; what helps is worked out here, after the failure. */
export function bpfError(command: BpfCommand, object: string, result: number): SyscallError {
  return new SyscallError(command, object, -result, errnoName(-result), hintFor(command, -result));
}

/** Calls bpf(2), or throws what `bpfError` says. */
export function bpfOrThrow(sys: Sys, command: BpfCommand, attr: Attr, object: string): number {
  const result = sys.bpf(command, attr);
  if (result < 0) throw bpfError(command, object, result);
  return result;
}
