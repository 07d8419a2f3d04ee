/** QEMU's machine protocol over its Unix socket: one command at a time, each answered before the next. */
import { KtstrError, SyscallError } from "../../errors.ts";
import { connectUnix, Fd, peerPid, read, write } from "../../ffi.ts";
import { escapeText } from "../../text.ts";
import { errnoName } from "../../uapi/errno.ts";

const TIMEOUT_S = 10;
/** The longest answer to what is asked here has some hundred bytes. */
const MAX_LINE_BYTES = 2 ** 20;
/** Events may come before an answer. */
const MAX_MESSAGES = 1000;

type Fields = { readonly [key: string]: unknown };

export class Qmp implements Disposable {
  readonly path: string;
  readonly #fd: Fd;
  #received = "";

  /** Connects and negotiates. Throws `KtstrError` if nobody answers. */
  constructor(path: string) {
    this.path = path;
    const fd = connectUnix(path, TIMEOUT_S);
    if (fd < 0) throw new SyscallError("connect", path, -fd, errnoName(-fd), "Is it QEMU's QMP socket?");
    this.#fd = new Fd(fd, path);
    try {
      if (!("QMP" in this.#message())) throw this.#error("it does not greet as QMP does");
      this.command("qmp_capabilities");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get fd(): number {
    return this.#fd.number;
  }

  /** The process that made the socket. */
  get pid(): number {
    return peerPid(this.#fd.number);
  }

  /** What QEMU returns. Throws `KtstrError` if it refuses, or does not answer in time. */
  command(name: string): Fields {
    const bytes = Uint8Array.from(Buffer.from(`{"execute":"${name}"}\n`));
    if (write(this.#fd.number, bytes) !== bytes.length) throw this.#error(`it does not take ${name}`);
    for (let count = 0; count < MAX_MESSAGES; count++) {
      const message = this.#message();
      if ("return" in message) return fieldsOf(message["return"]);
      if ("error" in message)
        throw this.#error(`${name}: ${escapeText(String(fieldsOf(message["error"])["desc"]))}`);
    }
    throw this.#error(`it does not answer ${name}`);
  }

  /** A line of the protocol. */
  #message(): Fields {
    const into = new Uint8Array(new ArrayBuffer(65_536));
    let end = this.#received.indexOf("\n");
    while (end < 0) {
      const got = read(this.#fd.number, into);
      if (got === 0) throw this.#error("QEMU closed it");
      if (got < 0) throw this.#error(`no answer comes in ${TIMEOUT_S} seconds`);
      if (this.#received.length > MAX_LINE_BYTES) throw this.#error("its answer does not end");
      this.#received += Buffer.from(into.subarray(0, got)).toString("latin1");
      end = this.#received.indexOf("\n");
    }
    const line = this.#received.slice(0, end);
    this.#received = this.#received.slice(end + 1);
    try {
      return fieldsOf(JSON.parse(line));
    } catch {
      throw this.#error("what it says is not QMP");
    }
  }

  #error(problem: string): KtstrError {
    return new KtstrError(`QMP socket ${this.path}: ${problem}`, {
      hint: "It serves one program at a time, such as libvirt; `--vm PID` takes no socket.",
    });
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

const fieldsOf = (value: unknown): Fields =>
  typeof value === "object" && value !== null ? (value as Fields) : {};
