/** Builds the program whose processes sleep in many places of the kernel. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "../cache.ts";
import type { Arch } from "../packages.ts";
import { compileStatic } from "../toolchain.ts";

/** Returns the path of the static program for an architecture. */
export async function buildSleepers(arch: Arch): Promise<string> {
  const source = join(import.meta.dir, "sleepers.c");
  const key = keyOf(await Bun.file(source).text(), compileStatic.toString());
  const dir = await cached(join(labDir(), "sleepers", `${arch}-${key}`), async (fresh) => {
    await mkdir(fresh, { recursive: true });
    await compileStatic(arch, join(fresh, "sleepers"), ["-Wall", "-Wextra", "-Werror", source]);
  });
  return join(dir, "sleepers");
}
