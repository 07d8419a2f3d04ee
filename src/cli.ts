#!/usr/bin/env -S BUN_RUNTIME_TRANSPILER_CACHE_PATH=0 bun --no-install --config=/dev/null --no-env-file --tsconfig-override=/dev/null
/**
 * Entry point. Sets up the engine before it loads the code of the command. The switches in the first line make Bun ignore
 * files in the current folder (bunfig.toml can preload code, tsconfig.json can replace modules, .env can set variables) and
 * transpiled code in HOME, which can belong to another user. They also stop Bun from downloading missing packages. The script
 * in package.json, docs/ and SECURITY.md repeat them.
 */
import { raiseJitThreshold } from "./jit-threshold.ts";

raiseJitThreshold();
if (Bun.main.endsWith(".ts")) cacheBytecode();
void import("./main.ts")
  .then(({ main }) => main(process.argv.slice(2)))
  // All output is written. Without this call the runtime would end 2 ms later, or 5 ms after a capture was read.
  .then((status) => process.exit(status));

/**
 * Caches the bytecode of source files, which saves a fifth of a short command's time. Built packages (tools/) contain their
 * bytecode. Bun recompiles a source that has changed and ignores a damaged cache.
 */
function cacheBytecode(): void {
  const { HOME, XDG_CACHE_HOME } = process.env;
  // The XDG specification says to ignore relative paths. Loading node:path would take 1 ms.
  const caches = XDG_CACHE_HOME?.startsWith("/") ? XDG_CACHE_HOME : HOME && `${HOME}/.cache`;
  if (caches?.startsWith("/") && isTrustedFolder(`${caches}/ktstr`))
    process.getBuiltinModule("node:module").enableCompileCache(`${caches}/ktstr`);
}

/**
 * Returns whether only this user and root can write to a folder or replace it. The cache holds bytecode that runs as this
 * user, who is often root, and sudo can leave HOME set to another user's. A missing folder is created by this user.
 */
function isTrustedFolder(path: string): boolean {
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
      // In a sticky folder such as /tmp, users cannot rename files of other users.
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
