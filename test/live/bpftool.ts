/** Our answers and bpftool's, side by side. */
import { expect, setDefaultTimeout } from "bun:test";
import { whyNoLive } from "../btf/support/live.ts";

export const CLI: string = new URL("../../src/cli.ts", import.meta.url).pathname;

export interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Words in front: `prlimit --nofile=64`. */
  readonly under?: readonly string[];
}

/** Runs ktstr to its end. */
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
 * JSON without loss: an integer past 2^53 becomes the string of its digits. bpftool writes control characters into
 * strings as they are (json_writer.c, jsonw_puts escapes some), which is no JSON: they are escaped first.
 */
export function parseExact(json: string): unknown {
  return JSON.parse(
    json.replace(/"(?:[^"\\]|\\.)*"|[-+\d.eE]+/g, (token) => {
      if (!token.startsWith('"')) return /^-?\d{16,}$/.test(token) ? `"${token}"` : token;
      return token.replace(/[\0-\x1f]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
    }),
  );
}

export function ours(...args: string[]): unknown {
  const ran = ktstr(["-j", ...args]);
  if (ran.status !== 0) throw new Error(`ktstr ${args.join(" ")}: exit ${ran.status}: ${ran.err}`);
  return parseExact(ran.out);
}

export function bpftools(...args: string[]): unknown {
  const ran = spawn(["bpftool", "-j", ...args]);
  if (ran.out === "") throw new Error(`bpftool ${args.join(" ")}: exit ${ran.status}: ${ran.err}`);
  return parseExact(ran.out);
}

/** bpftool holds what it loads to find out who holds what. */
function withoutBpftool(pids: unknown): unknown {
  return (pids as { comm: string }[]).filter(({ comm }) => comm !== "bpftool");
}

interface Tolerance {
  /** Keys whose values may differ by so much. */
  readonly off?: Readonly<Record<string, number>>;
}

/**
 * Every key and value of `theirs`, at its place, is in `mine`: what is not, one sentence each. Arrays have the same
 * length and order; objects of ours may have more keys.
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

/** One object, asked of both by its id. The program's `loaded_at` is computed from two clocks: a second either way. */
export function expectSame(kind: "map" | "prog" | "link" | "btf", id: number): void {
  const theirs = bpftools(kind, "show", "id", String(id));
  const one = Array.isArray(theirs) ? theirs[0] : theirs;
  const mine = ours(kind, "show", "id", String(id));
  const single = Array.isArray(mine) ? mine[0] : mine;
  expect(missing(single, one, { off: { loaded_at: 1 } })).toEqual([]);
}

/** The objects of a listing that are ours to compare: strangers come and go. */
export function only(list: unknown, ids: readonly number[]): unknown[] {
  if (!Array.isArray(list)) throw new Error("not a listing");
  return list.filter((item: { id?: number }) => item.id !== undefined && ids.includes(item.id));
}

/**
 * Why real comparisons cannot run here; "" where they can. The file that asks has time from then on: machines are slow
 * and shared, and what hangs still ends.
 */
export function whyNoKernel(...tools: string[]): string {
  setDefaultTimeout(60_000);
  return whyNoLive("bpftool", ...tools);
}
