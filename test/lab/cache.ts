/**
 * Creates entries of the lab's cache folder. An entry is written under a temporary name and then renamed, so it is always
 * complete. If several processes request an entry at the same time, it is created once.
 */
import { existsSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { labDir } from "../lab-dir.ts";
import { holdLock } from "./process.ts";

export { labDir };

let serial = 0;

/** Returns an unused name in the folder of `path`. */
function temporary(path: string): string {
  serial += 1;
  return `${path}.tmp-${process.pid}-${serial}`;
}

/**
 * Returns the entry at `path`. If it does not exist, `make` creates it at the given temporary path. Other processes that
 * request the same entry wait.
 */
export async function cached(path: string, make: (temporaryPath: string) => Promise<void>): Promise<string> {
  if (existsSync(path)) return path;
  await mkdir(dirname(path), { recursive: true });
  const locks = join(labDir(), "locks");
  await mkdir(locks, { recursive: true });
  // Lock files are not removed: if one is removed while two processes wait for it, both can get a lock.
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

/** Writes a file completely or not at all. */
export async function writeWhole(path: string, data: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const fresh = temporary(path);
  await writeFile(fresh, data);
  await rename(fresh, path);
}

/** Returns a short name for a list of inputs. Different inputs have different names. */
export function keyOf(...inputs: readonly string[]): string {
  return new Bun.CryptoHasher("sha256").update(inputs.join("\0")).digest("hex").slice(0, 16);
}
