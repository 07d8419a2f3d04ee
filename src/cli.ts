#!/usr/bin/env bun
/** Starts the command: before its code is loaded, how the engine is to run it. */
import { runPatiently } from "./patience.ts";

runPatiently();
if (Bun.main.endsWith(".ts")) cacheBytecode();
void import("./main.ts")
  .then(({ main }) => main(process.argv.slice(2)))
  // Everything is written: whatever the runtime would still wait for takes longer than a short command.
  .then((status) => process.exit(status));

/**
 * What the engine makes of sources is kept for the next time, which saves a fifth of a short command; what was built
 * (tools/) has it beside the code. A source that changed since, or a cache that is damaged, is compiled anew. Only the
 * user's own folder will do: bytecode that others may write would run as this user, who is often root.
 */
function cacheBytecode(): void {
  const { HOME, XDG_CACHE_HOME } = process.env;
  // Without node:path, which takes 1 ms to load.
  const caches = XDG_CACHE_HOME || (HOME && `${HOME}/.cache`);
  if (caches) process.getBuiltinModule("node:module").enableCompileCache(`${caches}/ktstr`);
}
