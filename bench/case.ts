/**
 * Types of a benchmark case. Two sides do the same job on the same bytes in the same run, and the result is the ratio of their
 * times. A side is a C program of `bench/reference`, a function of ktstr in its own process, or a whole command.
 */

/** Result of a repetition. It must be equal on both sides. */
export interface Work {
  readonly items: number;
  /** Sum over the visited bytes, 32 bits unsigned; 0 if nothing is summed. */
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
      /** Name in the table. */
      readonly name: string;
      readonly command: readonly string[];
      /** File for the output; default /dev/null. */
      readonly into?: string;
    };

/** Both sides. Disposal removes their input. */
export interface Prepared extends Disposable {
  readonly subject: Side;
  readonly reference: Side;
  /** Number of items if a side is a command, which does not report it; default 1. */
  readonly items?: number;
  /** Whether both are commands that must print the same bytes. */
  readonly sameOutput?: boolean;
}

export interface Case {
  /** Such as "IDR, 100K objects". `bun run bench PATTERN` selects cases whose names contain PATTERN. */
  readonly name: string;
  /** Limit of the ratio. */
  readonly target?: number;
  /** Limit of the subject's resident memory in MB, if the subject is a command of Bun. It is measured in an additional run. */
  readonly peakTargetMb?: number;
  /** Number of repetitions in one process. The first is also reported separately. */
  readonly times?: number;
  /** Number of jobs in each repetition except the first. Short jobs need many, because the clock has a limited resolution. */
  readonly loops?: number;
  /** The reason why the case cannot be measured here; "" or absent if it can. */
  readonly missing?: () => string | Promise<string>;
  /** Creates the input of both sides in `folder`. */
  prepare(folder: string): Prepared | Promise<Prepared>;
}

/** Opens the input that the words name, and returns the job. Only the job is measured. */
export type Job = (...words: string[]) => () => Work;

/** Exports of a `*.bench.ts`. */
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
