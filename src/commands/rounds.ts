/** What the commands that go on reading share: where rounds come from, and when the next one is due. */
import { UsageError } from "../errors.ts";
import type { GuestState } from "../guest/guest.ts";
import { resetJitThreshold } from "../jit-threshold.ts";
import type { LiveState } from "../live/live.ts";
import { Series, type Standstill } from "../report/series.ts";
import type { RoundSource, SeriesFacts } from "../round.ts";
import type { KernelInfo } from "../state.ts";
import type { Options } from "./command.ts";
import { textOption } from "./option-values.ts";
import type { OwnOption } from "./options.ts";

const MAX_SECONDS = 366 * 86_400;
const MIN_INTERVAL_MS = 10;

/** A number of seconds that was given, in milliseconds; undefined: it was not. Throws `UsageError`. */
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

/** `--interval`: in milliseconds. Throws `UsageError`. */
export function intervalOption(options: Options): number {
  const interval = secondsOption(options, "interval") ?? 1000;
  if (interval < MIN_INTERVAL_MS)
    throw new UsageError(`--interval: no less than ${MIN_INTERVAL_MS / 1000} seconds`);
  return interval;
}

/** The variables of `--get`. */
export const globalsOption = (options: Options): string[] =>
  (textOption(options, "get") ?? "").split(",").filter((name) => name !== "");

/**
 * Opens a kernel that goes on running: this one, whose run-time statistics are on until the source is disposed of, or the one
 * behind `--vm` or `--memory /proc/kcore`. Throws `KtstrError`.
 */
export async function openRounds(options: Options, globals: readonly string[]): Promise<RoundSource> {
  const { goesOn, refuseMemory } = await import("./source.ts");
  if (options.memory.length === 0) {
    refuseMemory(options, "without --vm or --memory");
    return await openLiveRounds(globals);
  }
  if (options.memory.length > 1 || !goesOn(options.memory[0] ?? ""))
    throw new UsageError("a frozen machine counts no further", {
      hint: "--vm reads one that runs; `ktstr diff A B` compares two memory files",
    });
  return await openMemoryRounds(options, globals);
}

/** The kernel is found while the machine runs, for what tells where it lies does not move. Only rounds pause it. */
async function openMemoryRounds(options: Options, globals: readonly string[]): Promise<RoundSource> {
  const { guestOptions, isVm, Progress } = await import("./source.ts");
  const { openGuest } = await import("../guest/guest.ts");
  const given = guestOptions(options);
  const path = options.memory[0] ?? "";
  using stack = new DisposableStack();
  let memory = given.memory;
  let pause: (() => Standstill | undefined) | undefined;
  if (isVm(path)) {
    const { RunningVm } = await import("../guest/vm/vm.ts");
    const vm = stack.use(new RunningVm(path));
    memory = [vm.ram()];
    if (!options.noPause) pause = () => vm.pauseBriefly();
  } else if (options.noPause) throw new UsageError("--no-pause goes with --vm");
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
  // What follows is compiled and known before the machine has to wait for it.
  resetJitThreshold();
  for (let round = 0; round < WARM_ROUNDS; round++) series.warmUp();
  return series;
}

const WARM_ROUNDS = 8;

const STATS_OFF =
  "run-time statistics are off in this machine, so that programs seem not to run: `sysctl kernel.bpf_stats_enabled=1` there";

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
  // Held maps stay alive: only those whose variables are asked for.
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

/** Until a signal that ends a process, or `stop()`. */
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

  /** Until a time of `performance.now()`; false: it ended before. */
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
 * Calls `each` at once and then in every interval of the schedule. A round that takes longer than the interval delays no
 * other: those that were due meanwhile are left out. How many were.
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
