/** Watches a guest's console and process, so that a wait for the guest ends if the guest dies. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { labDir } from "./cache.ts";
import { LabError } from "./process.ts";

/** The guest ended or hung, which is not a failure of ktstr. The copy of the console is kept after the guest's folder is removed. */
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
// A guest also counts as dead if the kernel ejects its scheduler. "unregistered" means that the loader ended the scheduler.
const ejectionPattern = /sched_ext: BPF scheduler "[^"\n]*" disabled \((?!unregistered)/;

/**
 * Returns the first line of a panic or an oops on the console, or of a scheduler's ejection unless `mayBeEjected`; undefined
 * if there is none.
 */
export function deathIn(console: string, mayBeEjected = false): string | undefined {
  const found = deathPattern.exec(console) ?? (mayBeEjected ? null : ejectionPattern.exec(console));
  return found === null ? undefined : console.slice(found.index).split(/\r?\n/)[0];
}

export class GuestWatch {
  /** Resolves to the reason when QEMU has ended or the console shows a panic. */
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

  /** Returns the result of `work`. Throws `GuestDied` if the guest dies first or `work` takes longer than `timeoutMs`. */
  async guard<T>(work: Promise<T>, what: string, timeoutMs: number): Promise<T> {
    const silent = Promise.withResolvers<{ why: string }>();
    const timer = setTimeout(
      () => silent.resolve({ why: `${what}: no answer in ${timeoutMs / 1000} s` }),
      timeoutMs,
    );
    const death = this.death.then((why) => ({ why }));
    const done = work.then(
      (value) => ({ value }),
      // If QEMU ends, its sockets close before its exit is seen. Wait, so that the exit is reported and not the socket's error.
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

  /** Throws `GuestDied` if the console shows a panic, an oops or an ejected scheduler. */
  async check(): Promise<void> {
    const seen = deathIn(await this.console(), this.#mayBeEjected);
    if (seen !== undefined) throw await this.#dead(seen);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
