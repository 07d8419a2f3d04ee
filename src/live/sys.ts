/**
 * The running kernel as this directory sees it. One implementation asks the real one; tests bring their own, to
 * show every errno that a kernel will not show on demand.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { SyscallError } from "../errors.ts";
import * as ffi from "../ffi.ts";
import { type BpfCommand, COMMANDS } from "../uapi/bpf.ts";
import {
  EACCES,
  EINVAL,
  EIO,
  EMFILE,
  ENFILE,
  ENOENT,
  ENOMEM,
  ENOSYS,
  EPERM,
  errnoName,
} from "../uapi/errno.ts";
import type { Attr } from "./attr.ts";

export interface Sys {
  /** `bpf(2)`: a result from 0 up, or `-errno`. */
  bpf(command: BpfCommand, attr: Attr): number;
  close(fd: number): void;
  /** A file of /proc or /sys as bytes; undefined where it cannot be read. */
  readFile(path: string): Uint8Array | undefined;
  /** What `/proc/self/fdinfo/N` says of a descriptor; undefined where there is no /proc. */
  readFdInfo(fd: number): Uint8Array | undefined;
  /** A directory's names; empty where it cannot be read. */
  readDirectory(path: string): readonly string[];
  mmap(options: ffi.MmapOptions): ffi.Mapping | number;
  pageSize(): number;
  /** A pidfd of a process, or of one thread (Linux 6.9), or `-errno`. */
  openPid(pid: number, thread: boolean): ffi.Fd | number;
  /** A directory's descriptor, its inode number and the directories in it, or `-errno`. */
  openDirectory(path: Uint8Array): OpenDirectory | number;
  /** clock_gettime(2) in nanoseconds. */
  clockNs(clock: number): bigint;
}

export interface OpenDirectory {
  readonly fd: ffi.Fd;
  readonly inode: bigint;
  /** Names in whatever bytes they have. */
  readonly children: readonly Uint8Array[];
}

export const realSys: Sys = {
  bpf: (command, attr) => ffi.bpf(COMMANDS[command], attr.bytes),
  close: (fd) => void ffi.close(fd),
  readFile: readWhole,
  readFdInfo,
  readDirectory(path) {
    try {
      return readdirSync(path);
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
  clockNs: ffi.clockNs,
};

function openDirectory(path: Uint8Array): OpenDirectory | number {
  const where = Buffer.from(path);
  let fd: ffi.Fd | undefined;
  try {
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
  const names = readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
  const isText = (name: string): boolean => !name.includes("\ufffd");
  const children: Uint8Array[] = names.filter(isText).map((name) => Buffer.from(name));
  if (names.every(isText)) return children;
  for (const name of readdirSync(path, { encoding: "buffer" })) {
    if (!isText(name.toString())) children.push(name);
  }
  return children;
}

const scratch = new Uint8Array(16_384);

/**
 * Files of /proc say that they are empty, and those of /sys give a page at a time: what is small is read until
 * nothing comes, which costs one call more than it must and no look at its size.
 */
function readWhole(path: string): Uint8Array | undefined {
  try {
    const fd = openSync(path, "r");
    try {
      let used = 0;
      while (used < scratch.length) {
        const got = readSync(fd, scratch, used, scratch.length - used, null);
        if (got === 0) return scratch.slice(0, used);
        used += got;
      }
    } finally {
      closeSync(fd);
    }
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** The fdinfo file of the descriptor number that was asked for last. */
const fdInfo = { of: -1, file: -1 };

/**
 * The kernel looks a number up anew at each read of its fdinfo file (fs/proc/fd.c, `seq_show`), and objects that are
 * opened and closed one after the other all get the same number. So the file stays open: a read of it costs a tenth
 * of opening it again. One descriptor is kept for that, until the process ends.
 */
function readFdInfo(fd: number): Uint8Array | undefined {
  try {
    if (fdInfo.of !== fd) {
      if (fdInfo.file >= 0) closeSync(fdInfo.file);
      fdInfo.of = -1;
      fdInfo.file = openSync(`/proc/self/fdinfo/${fd}`, "r");
      fdInfo.of = fd;
    }
    return scratch.subarray(0, readSync(fdInfo.file, scratch, 0, FDINFO_BYTES, 0));
  } catch {
    return undefined;
  }
}

const FDINFO_BYTES = 4096;

/** What each command needs, for the hint behind an EPERM. */
function privilegeFor(command: string): string {
  if (command.endsWith("_GET_NEXT_ID") || command.endsWith("_GET_FD_BY_ID")) return "CAP_SYS_ADMIN";
  if (command === "BPF_ENABLE_STATS") return "CAP_SYS_ADMIN";
  if (command === "BPF_PROG_LOAD") return "CAP_BPF and CAP_PERFMON";
  return "CAP_BPF";
}

function hintFor(command: string, errno: number): string {
  switch (errno) {
    case EPERM:
    case EACCES:
      return `${command} needs ${privilegeFor(command)}: run as root`;
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
