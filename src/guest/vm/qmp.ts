/** A client for QEMU's machine protocol (QMP) over its Unix socket. Commands are sent one at a time. */
import { KtstrError, SyscallError } from "../../errors.ts";
import { connectUnix, Fd, peerPid, read, write } from "../../ffi.ts";
import { escapeText } from "../../text.ts";
import { errnoName } from "../../uapi/errno.ts";

const TIMEOUT_S = 10;
/** The registers of a CPU take 3 KB. Other responses are shorter. */
const MAX_LINE_BYTES = 2 ** 24;
/** Limit on messages per command: events can precede the response. */
const MAX_MESSAGES = 1000;

type Fields = { readonly [key: string]: unknown };

export class Qmp implements Disposable {
  readonly path: string;
  readonly #fd: Fd;
  #received = "";

  /** Connects and negotiates capabilities. Throws `KtstrError` if there is no response. */
  constructor(path: string) {
    this.path = path;
    const fd = connectUnix(path, TIMEOUT_S);
    if (fd < 0) throw new SyscallError("connect", path, -fd, errnoName(-fd), "Is it QEMU's QMP socket?");
    this.#fd = new Fd(fd, path);
    try {
      if (!("QMP" in this.#message())) throw this.#error("it does not send QMP's greeting");
      this.command("qmp_capabilities");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get fd(): number {
    return this.#fd.number;
  }

  /** Process id of QEMU, which created the socket. */
  get pid(): number {
    return peerPid(this.#fd.number);
  }

  /** Runs a command and returns its result. Throws `KtstrError` if it fails or times out. */
  command(name: string, words?: Fields): Fields {
    return fieldsOf(this.#result(name, words));
  }

  /** Runs a command of QEMU's human monitor and returns its output. Throws `KtstrError` if it fails or times out. */
  monitor(line: string): string {
    return String(this.#result("human-monitor-command", { "command-line": line }));
  }

  #result(name: string, words?: Fields): unknown {
    const request = JSON.stringify({ execute: name, arguments: words });
    const bytes = Uint8Array.from(Buffer.from(`${request}\n`));
    if (write(this.#fd.number, bytes) !== bytes.length) throw this.#error(`${name} cannot be sent`);
    for (let count = 0; count < MAX_MESSAGES; count++) {
      const message = this.#message();
      if ("return" in message) return message["return"];
      if ("error" in message)
        throw this.#error(`${name}: ${escapeText(String(fieldsOf(message["error"])["desc"]))}`);
    }
    throw this.#error(`there is no response to ${name}`);
  }

  /** Reads one message, which is one line. */
  #message(): Fields {
    const into = new Uint8Array(new ArrayBuffer(65_536));
    let end = this.#received.indexOf("\n");
    while (end < 0) {
      const got = read(this.#fd.number, into);
      if (got === 0) throw this.#error("QEMU closed it");
      if (got < 0) throw this.#error(`there is no response within ${TIMEOUT_S} seconds`);
      if (this.#received.length > MAX_LINE_BYTES) throw this.#error("the response is too long");
      this.#received += Buffer.from(into.subarray(0, got)).toString("latin1");
      end = this.#received.indexOf("\n", this.#received.length - got);
    }
    const line = this.#received.slice(0, end);
    this.#received = this.#received.slice(end + 1);
    try {
      return fieldsOf(JSON.parse(line));
    } catch {
      throw this.#error("the response is not QMP");
    }
  }

  #error(problem: string): KtstrError {
    return new KtstrError(`QMP socket ${this.path}: ${problem}`, {
      hint: "It serves one client at a time, such as libvirt. `--vm PID` does not need the socket.",
    });
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

const fieldsOf = (value: unknown): Fields =>
  typeof value === "object" && value !== null ? (value as Fields) : {};
