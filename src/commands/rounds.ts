/** Sources and schedule of rounds, for the commands that read repeatedly: `top`, `record`, `metrics`. */
import { UsageError } from "../errors.ts";
import type { GuestState } from "../guest/guest.ts";
import { resetJitThreshold } from "../jit-threshold.ts";
import type { LiveState } from "../live/live.ts";
import { type PausedMachine, Series } from "../report/series.ts";
import type { RoundSource, SeriesFacts } from "../round.ts";
import type { KernelInfo } from "../state.ts";
import type { Options } from "./command.ts";
import { textOption } from "./option-values.ts";
import type { OwnOption } from "./options.ts";

const MAX_SECONDS = 366 * 86_400;
const MIN_INTERVAL_MS = 10;

/** Parses a number of seconds and returns milliseconds; undefined if not given. Throws `UsageError`. */
export function secondsOption(options: Options, name: OwnOption): number | undefined {
  const text = textOption(options, name);
  if (text === undefined) return undefined;
  const seconds = Number(text);
  if (text === "" || !(seconds > 0 && seconds <= MAX_SECONDS))
    throw new UsageError(`--${name} ${JSON.stringify(text)}: not a number of seconds`, {
      hint: `for example --${name} 0.5`,
    });
  return seconds * 1000;
}

/** `--interval` in milliseconds. Throws `UsageError`. */
export function intervalOption(options: Options): number {
  const interval = secondsOption(options, "interval") ?? 1000;
  if (interval < MIN_INTERVAL_MS)
    throw new UsageError(`--interval: the minimum is ${MIN_INTERVAL_MS / 1000} seconds`);
  return interval;
}

/** Returns the variables of `--get`. */
export const globalsOption = (options: Options): string[] =>
  (textOption(options, "get") ?? "").split(",").filter((name) => name !== "");

/**
 * Opens a running kernel: this one, with run-time statistics enabled until the source is disposed, or the one of `--vm` or
 * `--memory /proc/kcore`. Throws `KtstrError`.
 */
export async function openRounds(options: Options, globals: readonly string[]): Promise<RoundSource> {
  const { isRunning, readsMemory } = await import("./source.ts");
  if (!readsMemory(options)) return await openLiveRounds(globals);
  if (options.memory.length > 1 || !isRunning(options.memory[0] ?? ""))
    throw new UsageError("a frozen machine's counters do not change", {
      hint: "--vm reads a running one; `ktstr diff A B` compares two memory files",
    });
  return await openMemoryRounds(options, globals);
}

/** Finds the kernel while the machine runs, because its location does not change. Only rounds pause the machine. */
async function openMemoryRounds(options: Options, globals: readonly string[]): Promise<RoundSource> {
  const { guestOptions, isVm, Progress } = await import("./source.ts");
  const { openGuest } = await import("../guest/guest.ts");
  const given = guestOptions(options);
  const path = options.memory[0] ?? "";
  using stack = new DisposableStack();
  let memory = given.memory;
  let pause: (() => PausedMachine | undefined) | undefined;
  if (isVm(path)) {
    const { RunningVm } = await import("../guest/vm/vm.ts");
    const vm = stack.use(new RunningVm(path));
    memory = [vm.ram()];
    if (!options.noPause) pause = () => vm.pauseBriefly();
  } else if (options.noPause) throw new UsageError("--no-pause needs --vm");
  using progress = new Progress();
  const state = stack.use(openGuest({ ...given, memory, onProgress: progress.search }));
  const kernel = state.kernel();
  const facts = seriesFacts(sourceName(path), kernel, globals);
  const counter = state.counter();
  const notes = kernel.statsEnabled === false ? [STATS_OFF] : [];
  const openState = (): GuestState => state.again();
  const series = new Series({
    facts,
    counter,
    openState,
    openPlaces: openState,
    pause,
    notes,
    owned: stack.move(),
  });
  // Code that later rounds need is compiled before the machine is paused.
  resetJitThreshold();
  for (let round = 0; round < WARM_ROUNDS; round++) series.warmUp();
  return series;
}

const WARM_ROUNDS = 8;

const STATS_OFF =
  "run-time statistics are off in this machine, so programs have no run times: enable them there with `sysctl kernel.bpf_stats_enabled=1`";

const sourceName = (path: string): string => {
  const [, pid] = /^\/proc\/(\d+)\/mem$/.exec(path) ?? [];
  return pid === undefined ? path : `process ${pid}`;
};

async function openLiveRounds(globals: readonly string[]): Promise<RoundSource> {
  const [{ enableStats }, { openLive }, { LiveCounter }, { isSection }, { isMapOfProgs }] = await Promise.all(
    [
      import("../live/stats.ts"),
      import("../live/live.ts"),
      import("../live/counter.ts"),
      import("../report/globals.ts"),
      import("../report/prog-places.ts"),
    ],
  );
  using stack = new DisposableStack();
  stack.use(enableStats());
  // Held maps stay alive, so maps of global variables are held only if `--get` requests variables.
  const open = (): LiveState => openLive({ keep: (map) => globals.length > 0 && isSection(map) });
  const openPlaces = (): LiveState => openLive({ keep: isMapOfProgs });
  using live = open();
  const facts = seriesFacts("the running kernel", live.kernel(), globals);
  return new Series({ facts, counter: new LiveCounter(), openState: open, openPlaces, owned: stack.move() });
}

function seriesFacts(source: string, kernel: KernelInfo, globals: readonly string[]): SeriesFacts {
  const { release, machine, possibleCpus, onlineCpus, bootTimeUnixNs } = kernel;
  return { source, kernel: { release, machine, possibleCpus, onlineCpus, bootTimeUnixNs }, globals };
}

/** Waits until a signal that ends a process, or `stop()`. */
export class Ending implements Disposable {
  static readonly #SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
  readonly #abort: AbortController = new AbortController();
  readonly #onSignal = (): void => this.stop();

  constructor() {
    for (const signal of Ending.#SIGNALS) process.on(signal, this.#onSignal);
  }

  get isOver(): boolean {
    return this.#abort.signal.aborted;
  }

  stop(): void {
    this.#abort.abort();
  }

  /** Waits until a time of `performance.now()`; returns false if it was ended before. */
  async until(time: number): Promise<boolean> {
    const { signal } = this.#abort;
    const rest = time - performance.now();
    if (signal.aborted) return false;
    if (rest <= 0) return true;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, rest);
      signal.addEventListener("abort", done, { once: true });
      function done(): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
    });
    return !signal.aborted;
  }

  [Symbol.dispose](): void {
    for (const signal of Ending.#SIGNALS) process.off(signal, this.#onSignal);
  }
}

export interface Schedule {
  readonly intervalMs: number;
  readonly forMs: number | undefined;
  readonly rounds: number | undefined;
}

/**
 * Calls `each` now and at every interval of a fixed schedule. Rounds that become due during a longer round are skipped.
 * Returns the number of skipped rounds.
 */
export async function onSchedule(
  { intervalMs, forMs = Number.POSITIVE_INFINITY, rounds = Number.POSITIVE_INFINITY }: Schedule,
  ending: Ending,
  each: () => void | Promise<void>,
): Promise<number> {
  const started = performance.now();
  let due = 0;
  let missed = 0;
  for (let count = 0; count < rounds; count++) {
    if (due * intervalMs > forMs || !(await ending.until(started + due * intervalMs))) break;
    await each();
    const next = Math.max(due + 1, Math.ceil((performance.now() - started) / intervalMs));
    missed += next - due - 1;
    due = next;
  }
  return missed;
}
