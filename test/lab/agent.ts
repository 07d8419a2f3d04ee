/** Runs shell scripts in a guest through its second serial port, and returns their exit status and output. */
import { connect, type Socket } from "node:net";
import { LabError } from "./process.ts";

export interface ExecResult {
  readonly status: number;
  readonly stdout: Uint8Array<ArrayBuffer>;
  readonly stderr: string;
}

export interface Agent extends Disposable {
  /** Resolves when the guest's init is ready for commands. */
  readonly ready: Promise<void>;
  /** Runs a shell script in the guest. Commands run one after the other: a command that does not end blocks the others. */
  exec(script: string): Promise<ExecResult>;
}

interface Header {
  readonly id: number;
  readonly status: number;
  readonly outSize: number;
  readonly errSize: number;
}

/** Parses "@@7 0 1234 0": command 7 ended with status 0; 1234 bytes of stdout and 0 bytes of stderr follow. */
export function parseHeader(line: string): Header | undefined {
  const fields = /^@@(\d+) (\d+) (\d+) (\d+)$/.exec(line);
  if (fields === null) return undefined;
  const [id = 0, status = 0, outSize = 0, errSize = 0] = fields.slice(1).map(Number);
  return { id, status, outSize, errSize };
}

/** Parses the stream: lines up to a header, then the number of bytes that the header gives. */
export class AgentStream {
  #pending: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #chunks: Uint8Array<ArrayBuffer>[] = [];
  #chunkBytes = 0;
  #header: Header | undefined;
  readonly #onReady: () => void;
  readonly #onResult: (id: number, result: ExecResult) => void;

  constructor(onReady: () => void, onResult: (id: number, result: ExecResult) => void) {
    this.#onReady = onReady;
    this.#onResult = onResult;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(new Uint8Array(chunk));
    this.#chunkBytes += chunk.length;
    // Megabytes arrive in small chunks. They are joined once, when all bytes have arrived.
    const wanted = this.#header === undefined ? 0 : this.#header.outSize + this.#header.errSize;
    if (this.#pending.length + this.#chunkBytes < wanted) return;
    this.#pending = Bun.concatArrayBuffers([this.#pending, ...this.#chunks], Number.POSITIVE_INFINITY, true);
    this.#chunks = [];
    this.#chunkBytes = 0;
    while (this.#step());
  }

  #step(): boolean {
    if (this.#header !== undefined) return this.#takeBody(this.#header);
    const end = this.#pending.indexOf(10);
    if (end < 0) return false;
    const line = new TextDecoder().decode(this.#pending.subarray(0, end)).trim();
    this.#pending = this.#pending.slice(end + 1);
    if (line === "@@ready") this.#onReady();
    else this.#header = parseHeader(line);
    return true;
  }

  #takeBody({ id, status, outSize, errSize }: Header): boolean {
    if (this.#pending.length < outSize + errSize) return false;
    const stdout = this.#pending.slice(0, outSize);
    const stderr = new TextDecoder().decode(this.#pending.subarray(outSize, outSize + errSize));
    this.#pending = this.#pending.slice(outSize + errSize);
    this.#header = undefined;
    this.#onResult(id, { status, stdout, stderr });
    return true;
  }
}

export function connectAgent(path: string): Agent {
  const socket: Socket = connect(path);
  const ready = Promise.withResolvers<void>();
  const waiting = new Map<number, { resolve(result: ExecResult): void; reject(error: Error): void }>();
  const stream = new AgentStream(ready.resolve, (id, result) => {
    waiting.get(id)?.resolve(result);
    waiting.delete(id);
  });
  const fail = (why: string): void => {
    const error = new LabError(`lab: agent of the guest: ${why}`);
    ready.promise.catch(() => {});
    ready.reject(error);
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  socket.on("data", (chunk: Buffer) => stream.push(chunk));
  socket.on("error", (error) => fail(error.message));
  socket.on("close", () => fail("QEMU closed the port"));
  let last = 0;
  return {
    ready: ready.promise,
    exec(script): Promise<ExecResult> {
      const id = ++last;
      const answer = Promise.withResolvers<ExecResult>();
      waiting.set(id, answer);
      socket.write(`${id} ${Buffer.from(script).toString("base64")}\n`);
      return answer.promise;
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}
