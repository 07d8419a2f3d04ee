/** The zoo on the machine itself: started, its answers read, ended. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LabError } from "../process.ts";
import type { ZooAnswers } from "./answers.ts";

export interface RunningZoo extends AsyncDisposable {
  readonly answers: ZooAnswers;
  readonly pid: number;
}

/** Starts the loader with network devices and sockets of its own and waits for its answers, at most `timeoutMs`. */
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
    // Else its descriptor is closed whenever the garbage is collected, and tests that count descriptors see it go.
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
