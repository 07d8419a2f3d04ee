/**
 * Errors that a caller can act on. The message's order of words is: operation, object, cause; the hint (what
 * to do about it) is kept apart so that a printer can put it on its own line.
 */
export class KtstrError extends Error {
  /** What the reader can do about it, or "" where nothing better than the message is known. */
  readonly hint: string;

  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.hint = options.hint ?? "";
  }
}

/** The command line was wrong: exit status 2. */
export class UsageError extends KtstrError {}

/** A system call failed. `errno` is the positive number, `code` its name ("ENOENT"). */
export class SyscallError extends KtstrError {
  /** What was called, in the kernel's words: "BPF_MAP_GET_NEXT_ID", "openat". */
  readonly command: string;
  readonly errno: number;
  readonly code: string;

  constructor(command: string, object: string, errno: number, code: string, hint = "") {
    super(`${command}${object === "" ? "" : ` ${object}`}: ${code} (errno ${errno})`, { hint });
    this.command = command;
    this.errno = errno;
    this.code = code;
  }
}

/** Bytes that do not follow their format: an ELF file, BTF, a core's notes. `offset` is in bytes from its start. */
export class FormatError extends KtstrError {
  readonly offset: number;
  /** The message without the format's name and the offset. */
  readonly problem: string;

  constructor(format: string, offset: number, problem: string, hint = "") {
    super(`${format}: ${problem} (at byte ${offset})`, { hint });
    this.problem = problem;
    this.offset = offset;
  }
}

/** An object was used after its `Symbol.dispose`. */
export class DisposedError extends KtstrError {
  constructor(what: string) {
    super(`${what}: used after it was closed`);
  }
}
