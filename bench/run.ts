/** `bun run bench [PATTERN]`: every `*.bench.ts` whose name contains the pattern, each in a process of its own. */
import { readdirSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

const pattern = process.argv[2] ?? "";
const names = readdirSync(import.meta.dir)
  .filter((name) => name.endsWith(".bench.ts") && name.includes(pattern))
  .sort();
if (names.length === 0) {
  console.error(`no benchmark's name contains ${JSON.stringify(pattern)}`);
  process.exit(2);
}
console.log(`${cpus()[0]?.model ?? "unknown CPU"}, ${cpus().length} CPUs, Bun ${Bun.version}`);
let failed = 0;
for (const name of names) {
  console.log(`\n== ${name.replace(".bench.ts", "")}`);
  const done = Bun.spawnSync([process.execPath, join(import.meta.dir, name)], {
    stdio: ["inherit", "inherit", "inherit"],
  });
  if (!done.success) failed++;
}
process.exitCode = failed === 0 ? 0 : 1;
