import { UsageError } from "../errors.ts";
import { stringify } from "../report/json.ts";
import { History, type Rates, ratesBetween } from "../report/rates.ts";
import { openRecord } from "../report/record-read.ts";
import { topJson } from "../report/top-json.ts";
import { writeTopRound } from "../report/top-text.ts";
import { clock, TopView } from "../report/top-view.ts";
import type { Round, RoundSource, SeriesFacts } from "../round.ts";
import { escapeSentence, escapeText } from "../text.ts";
import { type Command, type Context, command } from "./command.ts";
import { countOption, textOption } from "./option-values.ts";
import { Ending, globalsOption, intervalOption, onSchedule, openRounds } from "./rounds.ts";
import { Screen } from "./screen.ts";
import { terminalStyle } from "./terminal.ts";

const top: Command = command({
  name: "ktstr top",
  description: "Watch programs' costs, maps and the scheduler",
  options: ["interval", "rounds", "once", "batch", "get", "replay"],
  examples: [
    "ktstr top                        # ? lists the keys",
    "ktstr top --vm 1234              # a virtual machine, read from the host",
    "ktstr top -j --rounds 10 | jq -c '.programs[] | [.name, .cpu_percent]'",
    "ktstr top --replay run.ktstr     # a record of `ktstr record`",
  ],
  async start(context) {
    const { options, words } = context;
    if (words.length > 0) throw new UsageError(`top: unexpected arguments: ${words.join(" ")}`);
    const isOnce = options.own["once"] === true;
    const rounds = isOnce ? 1 : countOption(options, "rounds", "rounds");
    const isScreen = !(options.json || isOnce || options.own["batch"] === true);
    if (isScreen) requireTerminal();
    const replay = textOption(options, "replay");
    using ending = new Ending();
    using feed = replay === undefined ? await liveFeed(context) : replayFeed(context, replay);
    if (isScreen) await showScreen(feed, ending, rounds);
    else await printRounds(context, feed, ending, rounds);
    if (feed.damage() !== "") context.warn(feed.damage());
    return 0;
  },
});

export default top;

/** Throws `UsageError` if input or output is not a terminal, or if the terminal cannot show a full screen. */
function requireTerminal(): void {
  const hint = "-b prints rounds as lines, -j as lines of JSON, --once one round";
  if (!process.stdout.isTTY) throw new UsageError("top: standard output is not a terminal", { hint });
  if (!process.stdin.isTTY) throw new UsageError("top: standard input is not a terminal", { hint });
  if (process.env["TERM"] === "dumb")
    throw new UsageError("top: this terminal (TERM=dumb) cannot show a screen", { hint });
}

/** Rounds of a kernel, or of a record. */
interface Feed extends Disposable {
  readonly facts: SeriesFacts;
  readonly intervalMs: number;
  readonly isReplay: boolean;
  history: History;
  /** Returns the places that run a program, as texts; undefined if the source has no such data. */
  places(progId: number): readonly string[] | undefined;
  /** Returns the next round; undefined if there is none. */
  next(): Rates | undefined;
  /** Returns the previous round; undefined if there is none. */
  back(): Rates | undefined;
  /** Position in a replay. */
  status(): string;
  /** Returns messages that were not shown yet. */
  newMessages(): readonly string[];
  /** Returns a sentence about the part of a record that was ignored; "" if there is none. */
  damage(): string;
}

async function liveFeed({ options }: Context): Promise<Feed> {
  const intervalMs = intervalOption(options);
  const source: RoundSource = await openRounds(options, globalsOption(options));
  let before: Round | undefined;
  let shownWarnings = 0;
  const feed: Feed = {
    facts: source.facts,
    intervalMs,
    isReplay: false,
    history: new History(),
    next() {
      const round = source.round();
      const rates = ratesBetween(before, round);
      before = round;
      feed.history.add(rates);
      return rates;
    },
    back: () => undefined,
    places: (progId) => source.places(progId),
    status: () => "",
    newMessages() {
      const { warnings } = source;
      const fresh = warnings.slice(shownWarnings);
      shownWarnings = warnings.length;
      return fresh;
    },
    damage: () => "",
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
  return feed;
}

function replayFeed({ options }: Context, path: string): Feed {
  if (options.memory.length > 0 || globalsOption(options).length > 0)
    throw new UsageError("top: --replay reads a record, not a kernel", {
      hint: "omit --vm, --memory and --get",
    });
  const record = openRecord(path);
  const rounds = [...record.rounds()];
  let at = -1;
  const rates = (index: number): Rates => ratesBetween(rounds[index - 1], rounds[index]!);
  const feed: Feed = {
    facts: record.facts,
    intervalMs: textOption(options, "interval") === undefined ? record.intervalMs : intervalOption(options),
    isReplay: true,
    history: new History(),
    places: () => undefined,
    next() {
      if (at + 1 >= rounds.length) return undefined;
      const now = rates(++at);
      feed.history.add(now);
      return now;
    },
    back() {
      if (at <= 0) return undefined;
      at--;
      feed.history = new History();
      for (let index = Math.max(0, at - HISTORY); index <= at; index++) feed.history.add(rates(index));
      return rates(at);
    },
    status: () => `Replay of ${escapeText(path)}: round ${at + 1} of ${rounds.length}`,
    newMessages: () => [],
    damage: () => record.damage,
    [Symbol.dispose]: () => {},
  };
  return feed;
}

/** Number of rounds that the history keeps. */
const HISTORY = 120;
/** The first rates are shown before a long interval ends. */
const FIRST_MS = 500;

async function showScreen(feed: Feed, ending: Ending, rounds = Number.POSITIVE_INFINITY): Promise<void> {
  const view = new TopView({ ...feed, style: terminalStyle() });
  let message = "";
  const show = (rates: Rates | undefined): void => {
    if (rates === undefined) return;
    view.history = feed.history;
    message = feed.newMessages().at(-1) ?? message;
    view.status = message === "" ? feed.status() : escapeSentence(message);
    view.show(rates);
  };
  const draw = (): void => screen.draw(view.lines(screen.columns, screen.rows));
  const onKey = (key: string): void => {
    const action = view.key(key);
    if (action === "quit") ending.stop();
    else if (action === "suspend") screen.suspend();
    else if (action === "opened") view.places = feed.places(view.opened?.id ?? 0);
    else if (action === "redraw") screen.forget();
    else if (feed.isReplay && (action === "back" || action === "forward")) {
      view.isPaused = true;
      show(action === "back" ? feed.back() : feed.next());
    }
    if (!ending.isOver) draw();
  };
  using screen = new Screen({ onKey, onRedraw: draw, onEnd: () => ending.stop() });
  draw();
  let due = performance.now();
  for (let count = 0; !ending.isOver && count < rounds; ) {
    if (!view.isPaused) {
      const rates = feed.next();
      show(rates);
      if (rates === undefined) view.isPaused = true;
      else if (rates.seconds > 0) count++;
      due += rates?.seconds === 0 ? Math.min(feed.intervalMs, FIRST_MS) : feed.intervalMs;
      draw();
    } else due += feed.intervalMs;
    due = Math.max(due, performance.now());
    if (!(await ending.until(due))) break;
  }
}

/** The first round is only the reference for the second; it is not printed. */
async function printRounds(
  context: Context,
  feed: Feed,
  ending: Ending,
  rounds = Number.POSITIVE_INFINITY,
): Promise<void> {
  const { options, out } = context;
  let left = rounds;
  const print = (rates: Rates): void => {
    for (const sentence of feed.newMessages()) context.warn(sentence);
    if (rates.seconds === 0) return;
    left--;
    if (options.json) out.line(stringify(topJson(rates, feed.facts.globals)));
    else writeTopRound(out, rates, feed.facts.globals, clock(rates.unixMs));
    out.flush();
  };
  if (feed.isReplay) {
    for (let rates = feed.next(); rates !== undefined && left > 0; rates = feed.next()) print(rates);
    return;
  }
  const schedule = { intervalMs: feed.intervalMs, forMs: undefined, rounds: rounds + 1 };
  await onSchedule(schedule, ending, () => {
    const rates = feed.next();
    if (rates !== undefined) print(rates);
  });
}
