/** Runs other programs, and holds locks. If a program is not installed, the error gives its Debian package. */
import { KtstrError } from "../../src/errors.ts";

/** The lab failed: a tool is missing or failed, or there is no network. The death of a guest is a `GuestDied`. */
export class LabError extends KtstrError {}

/** Debian packages of the tools that the lab runs. */
const packageOf: { readonly [tool: string]: string } = {
  "qemu-system-x86_64": "qemu-system-x86",
  "qemu-system-aarch64": "qemu-system-arm",
  "clang-19": "clang-19",
  "apt-get": "apt",
  "apt-cache": "apt",
  "dpkg-deb": "dpkg",
  flock: "util-linux",
  setpriv: "util-linux",
  xz: "xz-utils",
  zstd: "zstd",
  tar: "tar",
};

/** Returns the path of a tool. Throws a `LabError` with its package if it is not installed. */
export function tool(name: string): string {
  const path = Bun.which(name);
  if (path !== null) return path;
  const from = packageOf[name] ?? name;
  throw new LabError(`lab: ${name} is not installed`, {
    hint: `install it, on Debian: apt-get install ${from}`,
  });
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: { readonly [name: string]: string };
  readonly input?: Uint8Array;
  readonly timeoutMs?: number;
  /** The hint of the error. */
  readonly hint?: string;
}

/** Runs a program to its end and returns its standard output. Throws `LabError` if the exit status is not 0. */
export async function run(
  argv: readonly string[],
  options: RunOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const [name = "", ...rest] = argv;
  const path = name.includes("/") ? name : tool(name);
  const child = Bun.spawn([path, ...rest], {
    cwd: options.cwd ?? process.cwd(),
    env: { ...process.env, ...options.env },
    stdin: options.input ?? "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: options.timeoutMs ?? 300_000,
    killSignal: "SIGKILL",
  });
  const [out, err, status] = await Promise.all([child.stdout.bytes(), child.stderr.text(), child.exited]);
  if (status === 0) return out as Uint8Array<ArrayBuffer>;
  const ended = child.signalCode === null ? `status ${status}` : `${child.signalCode} (timeout?)`;
  throw new LabError(
    `lab: ${[name, ...rest].join(" ").slice(0, 300)}: ${ended}: ${err.trim().slice(-2000)}`,
    {
      hint: options.hint ?? "",
    },
  );
}

export async function runText(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  return new TextDecoder().decode(await run(argv, options));
}

/** Holds a lock file until it is disposed. If the holder is killed, the kernel closes `flock`'s stdin, which ends the lock. */
export async function holdLock(path: string): Promise<AsyncDisposable> {
  const child = Bun.spawn([tool("flock"), "-x", path, "sh", "-c", "echo held; exec cat >/dev/null"], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.getReader();
  const first = await reader.read();
  reader.releaseLock();
  if (first.done) throw new LabError(`lab: flock ${path}: status ${await child.exited}`);
  return {
    async [Symbol.asyncDispose](): Promise<void> {
      await child.stdin.end();
      await child.exited;
    },
  };
}
