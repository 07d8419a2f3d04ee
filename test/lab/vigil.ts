/** Watches a guest for its death, so that whoever waits for it learns of that instead of waiting on. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { labDir } from "./cache.ts";
import { LabError } from "./process.ts";

/** The guest ended or hung on its own, which is no failure of ours. The console's copy outlives the guest's folder. */
export class GuestDied extends LabError {
  readonly console: string;
  readonly consolePath: string;

  constructor(what: string, console: string, consolePath: string) {
    super(`lab: the guest died: ${what}`, { hint: `its console is in ${consolePath}` });
    this.console = console;
    this.consolePath = consolePath;
  }
}

const deathPattern = /Kernel panic - not syncing|BUG: unable to handle|Internal error: Oops|Oops: /;
// A scheduler that the kernel threw out counts, too: what was asked for is a guest that runs it. One that its own
// loader ended is "unregistered".
const ejectionPattern = /sched_ext: BPF scheduler "[^"\n]*" disabled \((?!unregistered)/;

/**
 * What the console shows of a panic, an oops or (unless that was asked for) a scheduler's end by error, the first line of
 * it; undefined: nothing.
 */
export function deathIn(console: string, mayBeEjected = false): string | undefined {
  const found = deathPattern.exec(console) ?? (mayBeEjected ? null : ejectionPattern.exec(console));
  return found === null ? undefined : console.slice(found.index).split(/\r?\n/)[0];
}

export class Vigil {
  /** Settles with the reason once QEMU ended or the console shows a panic. */
  readonly death: Promise<string>;
  readonly #name: string;
  readonly #consolePath: string;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #mayBeEjected: boolean;

  constructor(name: string, consolePath: string, exited: Promise<number>, mayBeEjected = false) {
    this.#name = name;
    this.#mayBeEjected = mayBeEjected;
    this.#consolePath = consolePath;
    const death = Promise.withResolvers<string>();
    exited.then((status) => death.resolve(`QEMU ended with status ${status}`));
    this.#timer = setInterval(async () => {
      const seen = deathIn(await this.console(), this.#mayBeEjected);
      if (seen !== undefined) death.resolve(seen);
    }, 500);
    this.death = death.promise;
  }

  console(): Promise<string> {
    return readFile(this.#consolePath, "utf8").catch(() => "");
  }

  /** The work's answer; a `GuestDied` when the guest dies first, or when it is silent for too long. */
  async guard<T>(work: Promise<T>, what: string, timeoutMs: number): Promise<T> {
    const silent = Promise.withResolvers<{ why: string }>();
    const timer = setTimeout(
      () => silent.resolve({ why: `${what}: no answer in ${timeoutMs / 1000} s` }),
      timeoutMs,
    );
    const death = this.death.then((why) => ({ why }));
    const done = work.then(
      (value) => ({ value }),
      // QEMU's end closes its sockets a moment before it is reaped: let the death speak first.
      async (error: unknown) => Promise.race([death, Bun.sleep(1000).then(() => ({ error }))]),
    );
    const outcome = await Promise.race([done, death, silent.promise]);
    clearTimeout(timer);
    if ("value" in outcome) return outcome.value;
    if ("error" in outcome) throw outcome.error;
    throw await this.#dead(outcome.why);
  }

  async #dead(why: string): Promise<GuestDied> {
    const text = await this.console();
    const kept = join(labDir(), "died", `${this.#name}-${process.pid}-${Date.now()}.txt`);
    await mkdir(join(labDir(), "died"), { recursive: true });
    await writeFile(kept, text);
    return new GuestDied(why, text, kept);
  }

  /** Throws `GuestDied` where the console shows by now that the guest is not what it was asked to be. */
  async check(): Promise<void> {
    const seen = deathIn(await this.console(), this.#mayBeEjected);
    if (seen !== undefined) throw await this.#dead(seen);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
