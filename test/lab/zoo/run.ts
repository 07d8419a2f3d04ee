/** Runs the zoo's loader on this machine: starts it, reads its answers, ends it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LabError } from "../process.ts";
import type { ZooAnswers } from "./answers.ts";

export interface RunningZoo extends AsyncDisposable {
  readonly answers: ZooAnswers;
  readonly pid: number;
}

/** Starts the loader in its own network namespace and waits for its answers, at most `timeoutMs`. */
export async function startZoo(loader: string, timeoutMs = 60_000): Promise<RunningZoo> {
  const dir = await mkdtemp(join(tmpdir(), "zoo-"));
  const file = join(dir, "answers.json");
  const child = Bun.spawn([loader, "--netns", "own", "--answers", file], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const end = async (): Promise<void> => {
    child.kill("SIGTERM");
    const forced = setTimeout(() => child.kill("SIGKILL"), 10_000);
    await child.exited;
    clearTimeout(forced);
    // Closes the descriptor now and not at a garbage collection, because some tests count descriptors.
    if (!child.stderr.locked) await child.stderr.cancel();
    await rm(dir, { recursive: true, force: true });
  };
  const deadline = Date.now() + timeoutMs;
  while (!(await Bun.file(file).exists())) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await end();
      const words = (await child.stderr.text()).trim().slice(-2000);
      throw new LabError(`zoo-loader: no answers (status ${child.exitCode}, ${child.signalCode}): ${words}`);
    }
    await Bun.sleep(20);
  }
  const answers = (await Bun.file(file).json()) as ZooAnswers;
  return { answers, pid: child.pid, [Symbol.asyncDispose]: end };
}
