/**
 * Errors that a caller can act on. A message gives the operation, the object and the cause, in this order. The hint says what
 * to do and is separate, so that a printer can put it on its own line.
 */
export class KtstrError extends Error {
  /** What the reader can do about the error; "" if there is no advice. */
  readonly hint: string;

  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.hint = options.hint ?? "";
  }
}

/** The command line is invalid: exit status 2. */
export class UsageError extends KtstrError {}

/** A system call failed. `errno` is positive; `code` is its name ("ENOENT"). */
export class SyscallError extends KtstrError {
  /** Name of the bpf(2) command or of the call: "BPF_MAP_GET_NEXT_ID", "open". */
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

/**
 * Converts an error of node:fs. `object` is the file in the message. `call` replaces the name of the system call in the error,
 * and `hintOf` returns the hint for an errno's name.
 */
export function syscallError(
  error: unknown,
  object: string,
  hintOf: (code: string) => string = () => "",
  call?: string,
): SyscallError {
  const { code = "EIO", errno = -5, syscall = "read" } = error as NodeJS.ErrnoException;
  return new SyscallError(call ?? syscall, object, Math.abs(errno), code, hintOf(code));
}

/** Bytes do not follow their format: an ELF file, BTF, the notes of a core. `offset` is in bytes from the start. */
export class FormatError extends KtstrError {
  readonly offset: number;
  /** The message without the name of the format and the offset. */
  readonly problem: string;

  constructor(format: string, offset: number, problem: string, hint = "") {
    super(`${format}: ${problem} (at byte ${offset})`, { hint });
    this.problem = problem;
    this.offset = offset;
  }
}

/** An object was used after `Symbol.dispose`. */
export class DisposedError extends KtstrError {
  constructor(what: string) {
    super(`${what}: used after it was closed`);
  }
}
