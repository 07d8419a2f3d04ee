/** Runs ktstr and bpftool, and compares their answers. */
import { expect, setDefaultTimeout } from "bun:test";
import { liveSkipReason } from "../btf/support/live.ts";

export const CLI: string = new URL("../../src/cli.ts", import.meta.url).pathname;

export interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Words in front of the command: `prlimit --nofile=64`. */
  readonly under?: readonly string[];
}

/** Runs ktstr and waits for its end. */
export function ktstr(args: readonly string[], options: RunOptions = {}): Ran {
  return spawn([...(options.under ?? []), process.execPath, CLI, ...args], options.env);
}

export function spawn(command: readonly string[], env: Readonly<Record<string, string>> = {}): Ran {
  const done = Bun.spawnSync([...command], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...env },
    timeout: 60_000,
  });
  return { status: done.exitCode ?? -1, out: done.stdout.toString(), err: done.stderr.toString() };
}

/**
 * Parses JSON without loss: an integer above 2^53 becomes a string of its digits. bpftool writes some control characters into
 * strings unescaped (json_writer.c, jsonw_puts), which is not valid JSON; they are escaped first.
 */
export function parseExact(json: string): unknown {
  return JSON.parse(
    json.replace(/"(?:[^"\\]|\\.)*"|[-+\d.eE]+/g, (token) => {
      if (!token.startsWith('"')) return /^-?\d{16,}$/.test(token) ? `"${token}"` : token;
      return token.replace(/[\0-\x1f]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
    }),
  );
}

/** Runs `ktstr -j` and parses its output; throws if it fails. */
export function ktstrJson(...args: string[]): unknown {
  const ran = ktstr(["-j", ...args]);
  if (ran.status !== 0) throw new Error(`ktstr ${args.join(" ")}: exit ${ran.status}: ${ran.err}`);
  return parseExact(ran.out);
}

/** Runs `bpftool -j` and parses its output; throws if there is none. */
export function bpftoolJson(...args: string[]): unknown {
  const ran = spawn(["bpftool", "-j", ...args]);
  if (ran.out === "") throw new Error(`bpftool ${args.join(" ")}: exit ${ran.status}: ${ran.err}`);
  return parseExact(ran.out);
}

/** Removes bpftool itself, which holds objects that it loads to find holders. */
function withoutBpftool(pids: unknown): unknown {
  return (pids as { comm: string }[]).filter(({ comm }) => comm !== "bpftool");
}

interface Tolerance {
  /** Keys whose values may differ by this much. */
  readonly off?: Readonly<Record<string, number>>;
}

/**
 * Returns one sentence for each key or value of `theirs` that `mine` does not have at the same place. Arrays must have the same
 * length and order; objects of `mine` may have more keys.
 */
export function missing(mine: unknown, theirs: unknown, tolerance: Tolerance = {}, path = "$"): string[] {
  if (Array.isArray(theirs)) {
    if (!Array.isArray(mine)) return [`${path}: ${JSON.stringify(mine)} is no array`];
    if (mine.length !== theirs.length) return [`${path}: ${mine.length} elements, not ${theirs.length}`];
    return theirs.flatMap((item, index) => missing(mine[index], item, tolerance, `${path}[${index}]`));
  }
  if (typeof theirs === "object" && theirs !== null) {
    if (typeof mine !== "object" || mine === null) return [`${path}: ${JSON.stringify(mine)} is no object`];
    return Object.entries(theirs).flatMap(([key, value]) => {
      if (!Object.hasOwn(mine, key)) return [`${path}.${key}: missing, bpftool has ${JSON.stringify(value)}`];
      const own: unknown = Reflect.get(mine, key);
      if (key === "pids") return missing(own, withoutBpftool(value), tolerance, `${path}.pids`);
      const off = tolerance.off?.[key];
      if (off !== undefined && typeof own === "number" && typeof value === "number") {
        return Math.abs(own - value) <= off ? [] : [`${path}.${key}: ${own}, not ${value}`];
      }
      return missing(own, value, tolerance, `${path}.${key}`);
    });
  }
  return Object.is(mine, theirs) ? [] : [`${path}: ${JSON.stringify(mine)}, not ${JSON.stringify(theirs)}`];
}

/** Compares one object by its id. A program's `loaded_at` is computed from two clocks, so it may differ by a second. */
export function expectSame(kind: "map" | "prog" | "link" | "btf", id: number): void {
  const theirs = bpftoolJson(kind, "show", "id", String(id));
  const one = Array.isArray(theirs) ? theirs[0] : theirs;
  const mine = ktstrJson(kind, "show", "id", String(id));
  const single = Array.isArray(mine) ? mine[0] : mine;
  expect(missing(single, one, { off: { loaded_at: 1 } })).toEqual([]);
}

/** Returns the objects of a listing that the test made. */
export function only(list: unknown, ids: readonly number[]): unknown[] {
  if (!Array.isArray(list)) throw new Error("not a listing");
  return list.filter((item: { id?: number }) => item.id !== undefined && ids.includes(item.id));
}

/**
 * Returns the reason why comparisons with the running kernel cannot be made here, or "". Also sets the timeout of the file's tests:
 * longer than the default for slow machines, and finite for tests that hang.
 */
export function kernelSkipReason(...tools: string[]): string {
  setDefaultTimeout(60_000);
  return liveSkipReason("bpftool", ...tools);
}
