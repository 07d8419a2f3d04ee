/** Start-up before a command's code is loaded, in separate processes. */
import { afterEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const cli = join(import.meta.dir, "../../src/cli.ts");
const made: string[] = [];

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "ktstr-start-"));
  made.push(path);
  return path;
}

afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true });
});

/** Starts ktstr with exactly this environment. */
function start(env: Record<string, string>): { out: string; err: string; status: number } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, cli, "inspect", "--sample"], {
    env: { PATH: process.env["PATH"] ?? "", ...env },
  });
  return { out: stdout.toString(), err: stderr.toString(), status: exitCode };
}

/** Returns the files of a cache, without the name of the runtime's version. */
const entriesOf = (cache: string): string[] =>
  readdirSync(cache).flatMap((version) =>
    readdirSync(join(cache, version)).map((name) => join(cache, version, name)),
  );

const whole = start({});

test("without HOME no bytecode is kept, without a message", () => {
  expect(whole.status).toBe(0);
  expect(whole.err).toBe("");
  expect(whole.out).toContain("victim-0");
});

test("bytecode is kept in the user's own folder, or in that of XDG_CACHE_HOME", () => {
  const home = folder();
  expect(start({ HOME: home })).toEqual(whole);
  expect(entriesOf(join(home, ".cache/ktstr")).length).toBeGreaterThan(50);
  const cache = folder();
  expect(start({ HOME: home, XDG_CACHE_HOME: cache })).toEqual(whole);
  expect(entriesOf(join(cache, "ktstr")).length).toBeGreaterThan(50);
});

test("kept bytecode, intact or damaged, does not change the output", () => {
  const home = folder();
  start({ HOME: home });
  const cache = join(home, ".cache/ktstr");
  expect(start({ HOME: home })).toEqual(whole);
  for (const [index, entry] of entriesOf(cache).entries()) {
    const bytes = readFileSync(entry);
    if (index % 3 === 0) truncateSync(entry, bytes.length / 2);
    else if (index % 3 === 1) writeFileSync(entry, bytes.fill(0xa5, bytes.length / 2));
  }
  expect(start({ HOME: home })).toEqual(whole);
});

test("a HOME that cannot be written is not an error", () => {
  expect(start({ HOME: "/proc/self" })).toEqual(whole);
  const file = join(folder(), "file");
  writeFileSync(file, "");
  expect(start({ HOME: file })).toEqual(whole);
  const disabled = folder();
  expect(start({ HOME: disabled, NODE_DISABLE_COMPILE_CACHE: "1" })).toEqual(whole);
  expect(existsSync(join(disabled, ".cache"))).toBe(false);
});
