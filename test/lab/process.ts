/** Other programs: run to their end with what they printed, or kept as a lock; and errors that say what to install. */
import { KtstrError } from "../../src/errors.ts";

/** The lab itself could not do its work: a missing tool, no network, a tool that failed. Not a guest's death. */
export class LabError extends KtstrError {}

/** Debian packages that bring the tools which the lab runs. */
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

/** The path of a tool; a `LabError` that names its package when it is not there. */
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
  /** What to do about a failure. */
  readonly hint?: string;
}

/** Runs a program to its end and gives its standard output. Anything but exit status 0 is a `LabError`. */
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

/** Holds a lock file until disposed; a holder that is killed lets it go, for the kernel closes `flock`'s stdin. */
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
