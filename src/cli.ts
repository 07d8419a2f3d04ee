#!/usr/bin/env -S BUN_RUNTIME_TRANSPILER_CACHE_PATH=0 bun --no-install --config=/dev/null --no-env-file --tsconfig-override=/dev/null
/**
 * Starts the command: before its code is loaded, how the engine is to run it. The switches above keep Bun from what lies
 * in the current folder (bunfig.toml can preload code, tsconfig.json can replace modules, .env can set variables) and from
 * transpiled code in HOME, which may be another user's, and from downloading a package that is not installed. package.json's
 * script, docs/ and SECURITY.md repeat them.
 */
import { raiseJitThreshold } from "./jit-threshold.ts";

raiseJitThreshold();
if (Bun.main.endsWith(".ts")) cacheBytecode();
void import("./main.ts")
  .then(({ main }) => main(process.argv.slice(2)))
  // Everything is written: whatever the runtime would still wait for takes longer than a short command.
  .then((status) => process.exit(status));

/**
 * What the engine makes of sources is kept for the next time, which saves a fifth of a short command; what was built
 * (tools/) has it beside the code. A source that changed since, or a cache that is damaged, is compiled anew.
 */
function cacheBytecode(): void {
  const { HOME, XDG_CACHE_HOME } = process.env;
  // The XDG specification: a relative path is to be ignored. Without node:path, which takes 1 ms to load.
  const caches = XDG_CACHE_HOME?.startsWith("/") ? XDG_CACHE_HOME : HOME && `${HOME}/.cache`;
  if (caches?.startsWith("/") && isOurs(`${caches}/ktstr`))
    process.getBuiltinModule("node:module").enableCompileCache(`${caches}/ktstr`);
}

/**
 * Whether nobody but this user and root can write a folder, or put another one in its place. Bytecode runs as this user,
 * who is often root, and sudo may leave HOME with another user's. What is not there yet is made by this user.
 */
function isOurs(path: string): boolean {
  const { lstatSync, realpathSync } = process.getBuiltinModule("node:fs");
  const user = process.geteuid?.() ?? -1;
  try {
    let deepest = path;
    while (lstatSync(deepest, { throwIfNoEntry: false }) === undefined) deepest = parentOf(deepest);
    let folder = realpathSync(deepest);
    if (lstatSync(folder).uid !== user) return false;
    for (; ; folder = parentOf(folder)) {
      const { uid, mode } = lstatSync(folder);
      const othersWrite = (mode & 0o022) !== 0;
      // In a sticky folder such as /tmp nobody can rename what belongs to another.
      if ((uid !== user && uid !== 0) || (othersWrite && (mode & 0o1000) === 0)) return false;
      if (folder === "/") return true;
    }
  } catch {
    return false;
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
