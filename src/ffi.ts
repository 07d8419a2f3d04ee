/**
 * The only importer of `bun:ffi`. libc is opened at the first call, because commands that read a small file do not need it.
 *
 * Functions return like system calls: a result of 0 or more, or `-errno`. The caller converts errors, because it knows the
 * operation and the object.
 */
import type { dlopen, FFIType, Pointer } from "bun:ffi";
import { DisposedError, KtstrError, SyscallError } from "./errors.ts";
import { EINTR, ENAMETOOLONG, errnoName } from "./uapi/errno.ts";

/** Bytes whose address may be stored in a struct for the kernel. They have an ArrayBuffer, so they do not move. */
export type PinnedBytes = Uint8Array<ArrayBuffer>;

const symbols = (long: FFIType.i64_fast) =>
  ({
    __errno_location: { args: [], returns: "ptr" },
    syscall: { args: ["i64", "i64", "ptr", "i64", "i64", "i64", "i64"], returns: long },
    open: { args: ["ptr", "i32", "i32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
    pread: { args: ["i32", "ptr", "u64", "i64"], returns: long },
    write: { args: ["i32", "ptr", "u64"], returns: long },
    read: { args: ["i32", "ptr", "u64"], returns: long },
    pipe2: { args: ["ptr", "i32"], returns: "i32" },
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    connect: { args: ["i32", "ptr", "i32"], returns: "i32" },
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "i32"], returns: "i32" },
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
    lseek: { args: ["i32", "i64", "i32"], returns: long },
    mmap: { args: ["ptr", "u64", "i32", "i32", "i32", "i64"], returns: long },
    munmap: { args: ["ptr", "u64"], returns: "i32" },
    madvise: { args: ["ptr", "u64", "i32"], returns: "i32" },
    mincore: { args: ["ptr", "u64", "ptr"], returns: "i32" },
    sysconf: { args: ["i32"], returns: long },
    if_indextoname: { args: ["u32", "ptr"], returns: "ptr" },
    clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  }) as const;

type Libc = ReturnType<typeof dlopen<ReturnType<typeof symbols>>>["symbols"];

/** Library names of glibc and musl. musl's name contains the kernel's name of the architecture. */
const MUSL_MACHINE = process.arch === "arm64" ? "aarch64" : "x86_64";
const LIBC_NAMES = ["libc.so.6", `libc.musl-${MUSL_MACHINE}.so.1`] as const;

let loaded: typeof import("bun:ffi") | undefined;
let opened: Libc | undefined;

/** Loads bun:ffi at the first call. This takes milliseconds, and a command that reads a capture makes no call. */
function ffi(): typeof import("bun:ffi") {
  loaded ??= require("bun:ffi") as typeof import("bun:ffi");
  return loaded;
}

function libc(): Libc {
  if (opened !== undefined) return opened;
  const { dlopen, FFIType } = ffi();
  const failures: string[] = [];
  for (const name of LIBC_NAMES) {
    try {
      opened = dlopen(name, symbols(FFIType.i64_fast)).symbols;
      return opened;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new KtstrError(`libc could not be opened (${LIBC_NAMES.join(", ")}): ${failures.join("; ")}`, {
    hint: "ktstr runs on Linux with glibc or musl, on x86-64 and arm64",
  });
}

/** Arguments and result of a C function, as bun:ffi names them. */
interface CFunction {
  readonly args: readonly ("ptr" | "u64" | "i64" | "i32")[];
  /** `i64_fast` returns a number if the value fits. */
  readonly returns: "i32" | "i64_fast";
}

/** Pointers are passed as buffers. */
type Callable = (...args: (ArrayBufferView | number | bigint | null)[]) => number;

/**
 * Library folders of the distributions (Debian multiarch; Fedora and SUSE; Arch and Alpine). For a name without a folder, Bun
 * also searches the current folder, which is not trusted.
 */
const LIBRARY_FOLDERS: readonly string[] = [
  `/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`,
  `/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`,
  "/usr/lib64",
  "/lib64",
  "/usr/lib",
  "/lib",
];

/**
 * Opens a shared library other than libc: the first of `names` found in a system folder. Throws `missing(why)` if none can be
 * loaded.
 */
export function sharedLibrary<Names extends string>(
  names: readonly string[],
  functions: Record<Names, CFunction>,
  missing: (why: string) => KtstrError,
): Record<Names, Callable> {
  const { dlopen } = ffi();
  const { existsSync } = process.getBuiltinModule("node:fs");
  const failures: string[] = [];
  const paths = names
    .flatMap((name) => LIBRARY_FOLDERS.map((folder) => `${folder}/${name}`))
    .filter(existsSync);
  if (paths.length === 0) failures.push(`no ${names.join(", ")} in ${LIBRARY_FOLDERS.join(", ")}`);
  for (const path of paths) {
    try {
      return dlopen(path, functions as Parameters<typeof dlopen>[1]).symbols as unknown as Record<
        Names,
        Callable
      >;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw missing(failures.join("; "));
}

/** Converts -1 to `-errno`. errno is read only here, directly after the call and before any other call to libc. */
function orErrno(result: number | bigint): number {
  if (result !== -1 && result !== -1n) return Number(result);
  return -ffi().read.i32(libc().__errno_location() as Pointer, 0);
}

/** asm/unistd_64.h and asm-generic/unistd.h. */
const NR_BPF = process.arch === "arm64" ? 280 : 321;

/** `bpf(command, attr, attr.length)`. Returns a file descriptor, 0, or `-errno`. */
export function bpf(command: number, attr: PinnedBytes): number {
  return orErrno(libc().syscall(NR_BPF, command, attr, attr.length, 0, 0, 0));
}

const NR_PIDFD_OPEN = 434;
const PIDFD_THREAD = 0o200;

/** `pidfd_open(pid)`. Returns a descriptor or `-errno`. With `thread`, `pid` can be any thread's id (since Linux 6.9). */
export function pidfdOpen(pid: number, thread: boolean): number {
  const flags = thread ? PIDFD_THREAD : 0;
  return orErrno(libc().syscall(NR_PIDFD_OPEN, pid, flags as Pointer, 0, 0, 0, 0));
}

export const CLOCK_REALTIME = 0;
export const CLOCK_BOOTTIME = 7;

/** Returns the time of a clock in nanoseconds (clock_gettime(2)). */
export function clockNs(clock: number): bigint {
  const time = new BigInt64Array(2);
  libc().clock_gettime(clock, time);
  return (time[0] ?? 0n) * 1_000_000_000n + (time[1] ?? 0n);
}

/** `IF_NAMESIZE` (net/if.h): a device's name with its NUL. */
const DEVICE_NAME_BYTES = 16;

/**
 * Returns the name of a device in our own network namespace, padded with NULs, or undefined if there is none
 * (if_indextoname(3)).
 */
export function deviceName(index: number): Uint8Array | undefined {
  const name = new Uint8Array(new ArrayBuffer(DEVICE_NAME_BYTES));
  return libc().if_indextoname(index, name) === null ? undefined : name;
}

/** Returns the address of bytes, for a pointer in a struct. The caller must keep a reference while the address is in use. */
export function addressOf(bytes: PinnedBytes): number {
  return ffi().ptr(bytes);
}

export const O_RDONLY = 0;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;

/** open(2). Returns a descriptor or `-errno`. */
export function open(path: string, flags: number = O_RDONLY): number {
  return orErrno(libc().open(Buffer.from(`${path}\0`), flags | O_CLOEXEC, 0));
}

/** close(2). Returns 0 or `-errno`. */
export function close(fd: number): number {
  return orErrno(libc().close(fd));
}

/** pread(2) into `into`. Returns the number of bytes read, or `-errno`. Restarts after a signal. */
export function pread(fd: number, into: PinnedBytes, offset: number | bigint): number {
  if (into.length === 0) return 0;
  let got: number;
  do got = orErrno(libc().pread(fd, into, into.length, offset));
  while (got === -EINTR);
  return got;
}

/** write(2). Returns the number of bytes written, or `-errno`. */
export function write(fd: number, bytes: PinnedBytes): number {
  return orErrno(libc().write(fd, bytes, bytes.length));
}

/** read(2). Returns the number of bytes read, 0 at the end, or `-errno`. Restarts after a signal. */
export function read(fd: number, into: PinnedBytes): number {
  let got: number;
  do got = orErrno(libc().read(fd, into, into.length));
  while (got === -EINTR);
  return got;
}

/** pipe2(2). Returns the read end and the write end, or `-errno`. */
export function pipe(): readonly [number, number] | number {
  const ends = new Int32Array(2);
  const result = orErrno(libc().pipe2(ends, O_CLOEXEC));
  return result < 0 ? result : [ends[0]!, ends[1]!];
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** Size of `struct sockaddr_un`: the family, and a path of 108 bytes including its NUL. */
const SOCKADDR_UN_BYTES = 110;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;

/** Connects to a stream Unix socket. Reads and writes time out after `timeoutS` seconds. Returns a descriptor or `-errno`. */
export function connectUnix(path: string, timeoutS: number): number {
  const name = Buffer.from(path);
  if (name.length > SOCKADDR_UN_BYTES - 3) return -ENAMETOOLONG;
  const address = new Uint8Array(new ArrayBuffer(SOCKADDR_UN_BYTES));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const fd = orErrno(libc().socket(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0));
  if (fd < 0) return fd;
  const timeout = new BigInt64Array([BigInt(timeoutS), 0n]);
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO])
    libc().setsockopt(fd, SOL_SOCKET, option, timeout, timeout.byteLength);
  const result = orErrno(libc().connect(fd, address, address.length));
  if (result < 0) close(fd);
  return result < 0 ? result : fd;
}

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_ROUTE = 0;

/** Opens an rtnetlink socket in our own network namespace. Returns a descriptor or `-errno`. */
export function routeSocket(): number {
  return orErrno(libc().socket(AF_NETLINK, SOCK_RAW | O_CLOEXEC, NETLINK_ROUTE));
}

/** Returns the pid of the process that listens on a Unix socket (`struct ucred`), or `-errno`. */
export function peerPid(fd: number): number {
  const credentials = new Int32Array(3);
  const length = new Int32Array([credentials.byteLength]);
  const result = orErrno(libc().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length));
  return result < 0 ? result : credentials[0]!;
}

export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;
export const SEEK_END = 2;

/** lseek(2). Returns the new offset, or `-errno` (`-ENXIO`: no data after `offset`). */
export function lseek(fd: number, offset: number, whence: number): number {
  return orErrno(libc().lseek(fd, offset, whence));
}

const SC_PAGESIZE = 30;

/** Returns the page size of the machine that ktstr runs on. An image can have another page size. */
export function pageSize(): number {
  return Number(libc().sysconf(SC_PAGESIZE));
}

/** An owned file descriptor. `using` or `[Symbol.dispose]()` closes it once. Afterwards, reading the number throws. */
export class Fd implements Disposable {
  #number: number;
  readonly #what: string;
  readonly #close: (fd: number) => unknown;

  /** Takes ownership of the descriptor. `what` names it in errors. */
  constructor(number: number, what: string, closeWith: (fd: number) => unknown = close) {
    this.#number = number;
    this.#what = what;
    this.#close = closeWith;
  }

  /** Opens a file for reading. Throws `SyscallError`. */
  static openFile(path: string, hint = ""): Fd {
    const fd = open(path);
    if (fd < 0) throw new SyscallError("open", path, -fd, errnoName(-fd), hint);
    return new Fd(fd, path);
  }

  get number(): number {
    if (this.#number < 0) throw new DisposedError(this.#what);
    return this.#number;
  }

  get closed(): boolean {
    return this.#number < 0;
  }

  [Symbol.dispose](): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    this.#close(number);
  }
}

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 0x01;
const MAP_FIXED = 0x10;
export const MAP_FIXED_NOREPLACE = 0x100000;

export interface MmapOptions {
  readonly fd: number;
  /** Offset in the file, a multiple of the page size. */
  readonly offset: number;
  readonly length: number;
  /** `PROT_*`; default `PROT_READ`. */
  readonly protection?: number;
  /** Map at exactly this address, or fail with `-EEXIST` (`MAP_FIXED_NOREPLACE`). */
  readonly address?: number;
}

/** mmap(2) with MAP_SHARED. Returns a mapping or `-errno`. A mapping can be at most 4 GiB, the maximum of an ArrayBuffer. */
export function mmap(options: MmapOptions): Mapping | number {
  const flags = MAP_SHARED | (options.address === undefined ? 0 : MAP_FIXED_NOREPLACE);
  const hint = (options.address ?? null) as Pointer | null;
  const at = orErrno(
    libc().mmap(hint, options.length, options.protection ?? PROT_READ, flags, options.fd, options.offset),
  );
  if (at < 0) return at;
  if (options.address !== undefined && at !== options.address) {
    // Kernels before 4.17 ignore MAP_FIXED_NOREPLACE and treat the address as a hint.
    libc().munmap(at as Pointer, options.length);
    return -17;
  }
  return new Mapping(at, options.length);
}

const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

/**
 * mmap(2) of anonymous private memory without reserved swap. A page uses memory once it is written. Returns a mapping or
 * `-errno`.
 */
export function mmapPrivate(length: number): Mapping | number {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const at = orErrno(libc().mmap(null, length, PROT_READ | PROT_WRITE, flags, -1, 0));
  return at < 0 ? at : new Mapping(at, length);
}

/**
 * An owned memory mapping. Closing it detaches its views: a view that is used afterwards is an empty array and does not read
 * unmapped memory.
 */
export class Mapping implements Disposable {
  readonly address: number;
  readonly length: number;
  #buffer: ArrayBuffer | undefined;

  constructor(address: number, length: number) {
    this.address = address;
    this.length = length;
    this.#buffer = ffi().toArrayBuffer(address as Pointer, 0, length);
  }

  get buffer(): ArrayBuffer {
    if (this.#buffer === undefined) throw new DisposedError("memory mapping");
    return this.#buffer;
  }

  /** madvise(2) for the first `length` bytes. Returns 0 or `-errno`. */
  advise(advice: number, length: number = this.length): number {
    return orErrno(libc().madvise(this.address as Pointer, Math.min(length, this.buffer.byteLength), advice));
  }

  /**
   * Replaces the mapped bytes by those at another offset of a file, read-only (`MAP_FIXED`). Unlike a new mapping, this creates
   * no buffer, whose size would count towards the next garbage collection. Returns 0 or `-errno`.
   */
  replace(fd: number, offset: number): number {
    const length = this.buffer.byteLength;
    const at = orErrno(
      libc().mmap(this.address as Pointer, length, PROT_READ, MAP_SHARED | MAP_FIXED, fd, offset),
    );
    return at < 0 ? at : 0;
  }

  /** mincore(2): one byte per page; bit 0 is set if the page is resident. Returns 0 or `-errno`. */
  mincore(into: PinnedBytes): number {
    return orErrno(libc().mincore(this.address as Pointer, this.buffer.byteLength, into));
  }

  [Symbol.dispose](): void {
    const buffer = this.#buffer;
    if (buffer === undefined) return;
    this.#buffer = undefined;
    buffer.transfer(0); // detaches all views
    libc().munmap(this.address as Pointer, this.length);
  }
}
