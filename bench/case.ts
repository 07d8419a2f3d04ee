/**
 * What a benchmark is: one job done by two sides on the same bytes in the same run, and the ratio of their times. A
 * side is a program of `bench/reference`, a function of ours in a process of its own, or a whole command.
 */

/** What a repetition did: both sides must have done the same. */
export interface Work {
  readonly items: number;
  /** Of what was looked at, 32 bits unsigned; 0 where nothing is summed. */
  readonly checksum: number;
}

export type Side =
  | {
      readonly kind: "c";
      /** `bench/reference/PROGRAM.c`, called as `PROGRAM TIMES LOOPS WORDS...`. */
      readonly program: string;
      readonly libraries?: readonly string[];
      readonly words: readonly string[];
    }
  | {
      readonly kind: "ours";
      /** A key of the module's `jobs`. */
      readonly job: string;
      readonly words: readonly string[];
    }
  | {
      readonly kind: "command";
      /** For the table. */
      readonly name: string;
      readonly command: readonly string[];
      /** A file for its output. Absent: /dev/null. */
      readonly into?: string;
    };

/** Both sides, as long as what they need is there. */
export interface Prepared extends Disposable {
  readonly subject: Side;
  readonly reference: Side;
  /** Items of a command, which cannot count them itself; 1 unless given. */
  readonly items?: number;
  /** Both are commands that must print the same bytes. */
  readonly sameOutput?: boolean;
}

export interface Case {
  /** "hash/1M/...": what `bun run bench PATTERN` looks in. */
  readonly name: string;
  /** The most that the ratio is to be. */
  readonly target?: number;
  /** Repetitions in one process, of which the first is also told alone. */
  readonly times?: number;
  /** How often a repetition does its job, but for the first: so often that the clock sees it. */
  readonly loops?: number;
  /** A reason why it cannot be measured here; "" or absent: it can. */
  readonly missing?: () => string | Promise<string>;
  /** Makes what both sides work on, in `folder`. */
  prepare(folder: string): Prepared | Promise<Prepared>;
}

/** Opens what the words name, which is not measured, and returns the job, which is. */
export type Job = (...words: string[]) => () => Work;

/** What a `*.bench.ts` exports. */
export interface Suite {
  readonly cases: readonly Case[];
  readonly jobs: Readonly<Record<string, Job>>;
}

export const ours = (job: string, ...words: readonly (string | number)[]): Side => ({
  kind: "ours",
  job,
  words: words.map(String),
});

export const inC = (program: string, ...words: readonly (string | number | bigint)[]): Side => ({
  kind: "c",
  program,
  words: words.map(String),
});
