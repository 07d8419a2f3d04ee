/** Names of the errno values that bpf(2), mmap(2) and file operations return (uapi/asm-generic/errno*.h). */
const NAMES: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  4: "EINTR",
  5: "EIO",
  6: "ENXIO",
  7: "E2BIG",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  14: "EFAULT",
  16: "EBUSY",
  17: "EEXIST",
  19: "ENODEV",
  20: "ENOTDIR",
  21: "EISDIR",
  22: "EINVAL",
  23: "ENFILE",
  24: "EMFILE",
  27: "EFBIG",
  28: "ENOSPC",
  32: "EPIPE",
  33: "EDOM",
  34: "ERANGE",
  36: "ENAMETOOLONG",
  38: "ENOSYS",
  40: "ELOOP",
  75: "EOVERFLOW",
  95: "EOPNOTSUPP",
  105: "ENOBUFS",
  110: "ETIMEDOUT",
  524: "ENOTSUPP",
};

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const ENAMETOOLONG = 36;
export const EIO = 5;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const ENOTDIR = 20;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENOSPC = 28;
export const EPIPE = 32;
export const ENOSYS = 38;
export const EOPNOTSUPP = 95;
/** Internal to the kernel, but bpf(2) returns it. */
export const ENOTSUPP = 524;

/** glibc's messages for the errno values that a lookup can return. bpftool prints them. */
const SENTENCES: Readonly<Record<number, string>> = {
  1: "Operation not permitted",
  2: "No such file or directory",
  4: "Interrupted system call",
  7: "Argument list too long",
  9: "Bad file descriptor",
  12: "Cannot allocate memory",
  13: "Permission denied",
  14: "Bad address",
  16: "Device or resource busy",
  22: "Invalid argument",
  28: "No space left on device",
  95: "Operation not supported",
  524: "Unknown error 524",
};

export function strerror(errno: number): string {
  return SENTENCES[errno] ?? errnoName(errno);
}

/** Returns "ENOENT" for 2, or "errno 999" for a number without a name. */
export function errnoName(errno: number): string {
  return NAMES[errno] ?? `errno ${errno}`;
}
