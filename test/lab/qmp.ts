/** Speaks QEMU's machine protocol over its Unix socket: one command at a time. Events are ignored. */
import { connect, type Socket } from "node:net";
import { LabError } from "./process.ts";

export type QmpMessage =
  | { readonly kind: "greeting" }
  | { readonly kind: "answer"; readonly value: unknown }
  | { readonly kind: "error"; readonly description: string }
  | { readonly kind: "event"; readonly name: string };

/** Parses one line of the protocol. Returns undefined if it is not a message. */
export function parseQmp(line: string): QmpMessage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields = value as { [key: string]: unknown };
  if ("QMP" in fields) return { kind: "greeting" };
  if ("return" in fields) return { kind: "answer", value: fields["return"] };
  if (typeof fields["event"] === "string") return { kind: "event", name: fields["event"] };
  const error = fields["error"];
  if (typeof error !== "object" || error === null) return undefined;
  return { kind: "error", description: String((error as { desc?: unknown }).desc) };
}

/** Splits a stream into lines. An incomplete line is kept until the next chunk. */
export function lineSplitter(take: (line: string) => void): (chunk: string) => void {
  let rest = "";
  return (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  };
}

export interface Qmp extends Disposable {
  command(name: string, args?: { readonly [key: string]: unknown }): Promise<unknown>;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Connects and negotiates capabilities. The socket exists before QEMU runs the guest. */
export async function connectQmp(path: string): Promise<Qmp> {
  const socket: Socket = connect(path);
  const waiting: Waiting[] = [];
  const greeting = Promise.withResolvers<unknown>();
  waiting.push(greeting);
  const fail = (why: string): void => {
    for (const { reject } of waiting.splice(0)) reject(new LabError(`lab: QMP ${path}: ${why}`));
  };
  const take = lineSplitter((line) => {
    const message = parseQmp(line);
    if (message === undefined || message.kind === "event") return;
    const next = waiting.shift();
    if (message.kind === "error") next?.reject(new LabError(`lab: QMP: ${message.description}`));
    else next?.resolve(message.kind === "answer" ? message.value : undefined);
  });
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string | Buffer) => take(String(chunk)));
  socket.on("error", (error) => fail(error.message));
  socket.on("close", () => fail("QEMU closed it"));
  const command = (name: string, args?: { readonly [key: string]: unknown }): Promise<unknown> => {
    const answer = Promise.withResolvers<unknown>();
    if (socket.destroyed) return Promise.reject(new LabError(`lab: QMP ${name}: QEMU has ended`));
    waiting.push(answer);
    socket.write(
      `${JSON.stringify(args === undefined ? { execute: name } : { execute: name, arguments: args })}\n`,
    );
    return answer.promise;
  };
  await greeting.promise;
  await command("qmp_capabilities");
  return { command, [Symbol.dispose]: () => void socket.destroy() };
}
