/** No file in the current folder or in another user's HOME runs, configures ktstr or is written, for every way to start it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildPackage } from "../../tools/pack.ts";

const project = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "ktstr-trust-"));
const hostile = join(folder, "hostile");
/** File that the attacker's code creates if any of it runs. */
const ran = join(folder, "ran");
const home = join(folder, "home");
const source = join(project, "src/cli.ts");

/** Returns the words of a program's shebang, as the kernel and env -S parse it, and the program. */
function shebangWords(program: string): string[] {
  const [first = ""] = readFileSync(program, "latin1").split("\n");
  const [, words = ""] = /^#!\/usr\/bin\/env -S (.+)$/.exec(first) ?? [];
  expect(words).toContain(" bun ");
  return ["/usr/bin/env", ...words.split(" "), program];
}

beforeAll(async () => {
  for (const path of [hostile, home, join(folder, "bin")]) mkdirSync(path);
  const evil = `require("node:fs").appendFileSync(${JSON.stringify(ran)}, "ran\\n");`;
  writeFileSync(join(hostile, "evil.ts"), evil);
  writeFileSync(join(hostile, "bunfig.toml"), 'preload = ["./evil.ts"]\n');
  for (const name of [".env", ".env.local", ".env.production", ".env.development"])
    writeFileSync(
      join(hostile, name),
      `XDG_CACHE_HOME=${hostile}/cache\nBUN_INSPECT_PRELOAD=${hostile}/evil.ts\n`,
    );
  const paths = { "*": ["./evil.ts"], citty: ["./evil.ts"], "node:*": ["./evil.ts"] };
  writeFileSync(join(hostile, "tsconfig.json"), JSON.stringify({ compilerOptions: { baseUrl: ".", paths } }));
  writeFileSync(join(hostile, "package.json"), '{"name":"ktstr","scripts":{"ktstr":"sh ./ktstr"}}');
  for (const name of ["ktstr", "bun", "env", "node"]) {
    writeFileSync(join(hostile, name), `#!/bin/sh\necho ran >> '${ran}'\n`);
    chmodSync(join(hostile, name), 0o755);
  }
  mkdirSync(join(hostile, "node_modules/citty"), { recursive: true });
  writeFileSync(join(hostile, "node_modules/citty/index.js"), evil);
  symlinkSync(process.execPath, join(folder, "bin/bun"));
  await buildPackage(join(folder, "package/dist"));
  symlinkSync(join(project, "sample"), join(folder, "package/sample"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Started {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

function start(command: readonly string[], env: Record<string, string> = {}, cwd: string = hostile): Started {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...command], {
    cwd,
    env: { PATH: `${folder}/bin:/usr/local/bin:/usr/bin:/bin`, HOME: home, ...env },
  });
  return { status: exitCode, out: stdout.toString(), err: stderr.toString() };
}

const ways: readonly (readonly [string, () => readonly string[]])[] = [
  ["the packed command", () => shebangWords(join(folder, "package/dist/cli.js"))],
  ["the sources' command", () => shebangWords(source)],
  ["npm run", () => ["npm", "--silent", "--prefix", project, "run", "ktstr", "--"]],
];

describe.each(ways)("%s", (_, command) => {
  test("in a hostile folder runs no code of it, reads no setting of it, and writes nothing to it", () => {
    const before = readdirSync(hostile);
    const started = start([...command(), "inspect", "--sample"]);
    expect([started.status, started.err]).toEqual([0, ""]);
    expect(started.out).toContain("victim-0");
    expect(existsSync(ran)).toBe(false);
    expect(readdirSync(hostile)).toEqual(before);
  });

  test("with another user's HOME, or a relative cache path, writes nothing there", () => {
    const theirs = join(folder, "theirs");
    mkdirSync(theirs, { recursive: true });
    chownSync(theirs, 65_534, 65_534);
    for (const env of [{ HOME: theirs }, { HOME: theirs, XDG_CACHE_HOME: "cache" }, { HOME: "." }]) {
      const before = readdirSync(hostile);
      expect(start([...command(), "inspect", "--sample"], env as Record<string, string>).status).toBe(0);
      // npm writes logs to HOME; these are npm's.
      expect(readdirSync(theirs).filter((name) => name !== ".npm")).toEqual([]);
      expect(readdirSync(hostile).filter((name) => !before.includes(name) && name !== ".npm")).toEqual([]);
    }
  });
});

test("the hostile folder works: without the options its code runs", () => {
  start([process.execPath, source, "--version"]);
  expect(existsSync(ran)).toBe(true);
  rmSync(ran);
});

test("bytecode is kept only in a folder that no other user can write", () => {
  const command = shebangWords(source);
  const kept = (name: string, prepare: (path: string) => void): boolean => {
    const path = join(folder, name);
    mkdirSync(path);
    prepare(path);
    expect(start([...command, "--version"], { HOME: path }, "/").status).toBe(0);
    return existsSync(join(path, ".cache/ktstr")) && readdirSync(join(path, ".cache/ktstr")).length > 0;
  };
  expect(kept("own", () => {})).toBe(true);
  expect(kept("writable", (path) => chmodSync(path, 0o777))).toBe(false);
  expect(
    kept("cache-of-another", (path) => {
      mkdirSync(join(path, ".cache"));
      chownSync(join(path, ".cache"), 65_534, 65_534);
    }),
  ).toBe(false);
  expect(
    kept("link", (path) => {
      const theirs = join(folder, "theirs-too");
      mkdirSync(theirs);
      chownSync(theirs, 65_534, 65_534);
      symlinkSync(theirs, join(path, ".cache"));
    }),
  ).toBe(false);
});

test("a completion runs the ktstr of PATH, not the program that the line names", () => {
  const bin = join(folder, "completing");
  mkdirSync(bin);
  writeFileSync(join(bin, "ktstr"), `#!/bin/sh\nexec ${shebangWords(source).join(" ")} "$@"\n`);
  chmodSync(join(bin, "ktstr"), 0o755);
  const { out } = start([process.execPath, source, "completions", "bash"], {}, "/");
  writeFileSync(join(folder, "script.bash"), out);
  const script = `source '${folder}/script.bash'; COMP_WORDS=(./ktstr ins); COMP_CWORD=1; _ktstr ./ktstr; echo "\${COMPREPLY[@]}"`;
  const offered = start(["bash", "--norc", "-c", script], {
    PATH: `${bin}:${folder}/bin:${process.env["PATH"]}`,
  });
  expect(offered.out.trim()).toBe("inspect");
  expect(existsSync(ran)).toBe(false);
});

test("a command works in a folder that its user may not read", () => {
  const closed = join(folder, "closed");
  mkdirSync(closed, { mode: 0o700 });
  chownSync(closed, 65_534, 65_534);
  const powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
  const shown = start([...powerless, ...shebangWords(source), "inspect", "--sample"], {}, closed);
  expect([shown.status, shown.err]).toEqual([0, ""]);
  expect(shown.out).toContain("victim-0");
});
