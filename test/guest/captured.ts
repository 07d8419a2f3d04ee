/** The matrix's guests as captures with their answers (`bun run lab captures`): real kernels on any machine. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import type { LabImage } from "./images.ts";

const ARCHIVE = join(import.meta.dir, "../fixtures/machines.cpio.zst");
/** A record of cpio "newc": "070701", 13 numbers of 8 hexadecimal digits, the name, the contents. */
const HEADER_BYTES = 110;
const FILE_SIZE = 6;
const NAME_SIZE = 11;

let folder: string | undefined;

/** Extracted files exist until this process ends. */
function temporaryFolder(): string {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), "ktstr-captured-"));
    process.on("exit", () => rmSync(made, { recursive: true, force: true }));
    folder = made;
  }
  return folder;
}

function* files(archive: Buffer): Generator<{ readonly path: string; readonly data: Buffer }> {
  const padded = (at: number): number => Math.ceil(at / 4) * 4;
  for (let at = 0; at + HEADER_BYTES <= archive.length; ) {
    const field = (index: number): number =>
      Number.parseInt(archive.toString("latin1", at + 6 + 8 * index, at + 14 + 8 * index), 16);
    const nameAt = at + HEADER_BYTES;
    const path = archive.toString("utf8", nameAt, nameAt + field(NAME_SIZE) - 1);
    const dataAt = padded(nameAt + field(NAME_SIZE));
    const end = dataAt + field(FILE_SIZE);
    yield { path, data: archive.subarray(dataAt, end) };
    at = padded(end);
  }
}

/** Returns the captures, each with the answers of its guest. */
export function capturedImages(): LabImage[] {
  const machines = new Map<string, Map<string, Buffer>>();
  for (const { path, data } of files(zstdDecompressSync(readFileSync(ARCHIVE)))) {
    const [machine = "", ...rest] = path.split("/");
    if (data.length === 0 && rest.length === 0) continue;
    const known = machines.get(machine) ?? new Map<string, Buffer>();
    machines.set(machine, known.set(rest.join("/"), data));
  }
  return [...machines].map(([name, contents]) => imageOf(`${name}, captured`, contents));
}

function imageOf(name: string, contents: ReadonlyMap<string, Buffer>): LabImage {
  let path: string | undefined;
  const answerBytes = (file: string): Uint8Array | undefined => contents.get(`answers/${file}`);
  return {
    name,
    get memory() {
      if (path === undefined) {
        path = join(temporaryFolder(), `${name}.vmcore`);
        writeFileSync(path, contents.get("vmcore")!);
      }
      return path;
    },
    vmcore: undefined,
    pieces: [],
    answerBytes,
    answer: (file) => {
      const bytes = answerBytes(file);
      return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
    },
  };
}
