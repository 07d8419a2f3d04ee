/**
 * Entries of the lab's cache folder. An entry appears whole (temporary name, then rename) and is made once, however
 * many processes ask for it at the same time.
 */
import { existsSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { labDir } from "../lab-dir.ts";
import { holdLock } from "./process.ts";

export { labDir };

let serial = 0;

/** A name beside `path` that nobody else uses. */
function temporary(path: string): string {
  serial += 1;
  return `${path}.tmp-${process.pid}-${serial}`;
}

/**
 * The entry at `path`, made by `make` (which fills the temporary path that it is given) unless it is there.
 * Other processes that want the same entry wait for the first one.
 */
export async function cached(path: string, make: (temporaryPath: string) => Promise<void>): Promise<string> {
  if (existsSync(path)) return path;
  await mkdir(dirname(path), { recursive: true });
  const locks = join(labDir(), "locks");
  await mkdir(locks, { recursive: true });
  // Lock files stay: one that is removed while others wait for it lets two of them in.
  await using _lock = await holdLock(join(locks, keyOf(path)));
  if (existsSync(path)) return path;
  const fresh = temporary(path);
  try {
    await make(fresh);
    await rename(fresh, path);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return path;
}

/** Writes a file whole or not at all. */
export async function writeWhole(path: string, data: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const fresh = temporary(path);
  await writeFile(fresh, data);
  await rename(fresh, path);
}

/** A short name for a list of inputs: entries made from other inputs get other names. */
export function keyOf(...inputs: readonly string[]): string {
  return new Bun.CryptoHasher("sha256").update(inputs.join("\0")).digest("hex").slice(0, 16);
}
