/**
 * Frozen machines of the lab: folders with `meta.json`, the memory, and what the guest itself answered just before.
 * They lie in `KTSTR_LAB_IMAGES`, or in `images` or `early` of the lab's cache folder.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

export interface LabImage {
  readonly name: string;
  readonly memory: string;
  /** QEMU's ELF core of the same freeze. */
  readonly vmcore: string | undefined;
  readonly pieces: readonly { readonly gpa: number; readonly fileOffset: number; readonly size: number }[];
  /** A file of answers, as text; undefined where the guest gave none. */
  answer(name: string): string | undefined;
  answerBytes(name: string): Uint8Array | undefined;
}

/** The lab's cache folder. */
export function labFolder(): string {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return process.env["KTSTR_LAB_DIR"] ?? join(cache, "ktstr-lab");
}

function folders(): string[] {
  const named = process.env["KTSTR_LAB_IMAGES"];
  if (named !== undefined && named !== "") return [named];
  return [join(labFolder(), "images"), join(labFolder(), "early")];
}

/** Every image that is there, by name. None: prints why, and throws where the lab was promised. */
export function labImages(): LabImage[] {
  const found = folders()
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => ({ name, dir: join(folder, name) })))
    .filter(({ name, dir }) => !name.startsWith(".") && existsSync(join(dir, "meta.json")))
    .map(({ name, dir }) => openFolder(name, dir))
    .sort((a, b) => a.name.localeCompare(b.name));
  if (found.length > 0) return found;
  const why = `no frozen machine of the lab lies in ${folders().join(" or ")}`;
  if (process.env["KTSTR_REQUIRE_LAB"] === "1") throw new Error(`KTSTR_REQUIRE_LAB=1, but ${why}`);
  console.warn(`skipped: ${why}`);
  return [];
}

function openFolder(name: string, dir: string): LabImage {
  const meta = JSON.parse(readFileSync(join(dir, "meta.json"), "utf8")) as Pick<LabImage, "pieces">;
  const bytes = (file: string): Uint8Array | undefined => {
    const path = join(dir, "answers", file);
    return existsSync(path) ? readFileSync(path) : undefined;
  };
  const vmcore = join(dir, "vmcore");
  return {
    name,
    memory: join(dir, "mem"),
    vmcore: existsSync(vmcore) ? vmcore : undefined,
    pieces: meta.pieces,
    answerBytes: bytes,
    answer: (file) => {
      const content = bytes(file);
      return content === undefined ? undefined : new TextDecoder().decode(content);
    },
  };
}
