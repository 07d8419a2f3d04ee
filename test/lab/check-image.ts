/** Checks a frozen image against the guest's answers, without the code under test. */
import { open } from "node:fs/promises";
import type { FrozenImage } from "./frozen.ts";
import { LabError } from "./process.ts";
import type { MemoryPiece } from "./qemu.ts";

/** Returns the start of a resource in /proc/iomem, such as "05800000-06aca8df : Kernel code". */
export function iomemStart(iomem: string, name: string): number | undefined {
  const line = iomem.split("\n").find((each) => each.trim().endsWith(` : ${name}`));
  return line === undefined ? undefined : Number.parseInt(line.trim(), 16);
}

/** Returns the offset of a guest physical address in the memory file. */
export function offsetOf(pieces: readonly MemoryPiece[], gpa: number): number | undefined {
  const piece = pieces.find((each) => gpa >= each.gpa && gpa < each.gpa + each.size);
  return piece === undefined ? undefined : gpa - piece.gpa + piece.fileOffset;
}

async function readAt(path: string, offset: number, size: number): Promise<Buffer> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(size), 0, size, offset);
  return buffer;
}

function must<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new LabError(`lab: frozen image: ${what}`);
  return value;
}

/** Checks that the memory at `linux_banner`, located by /proc/iomem and /proc/kallsyms, contains /proc/version. */
async function checkBanner(image: FrozenImage): Promise<void> {
  const symbols = await image.answers.kallsyms();
  const iomem = must(await image.answers.text("iomem"), "no /proc/iomem");
  // "Kernel code" starts at _text (x86 arch/x86/kernel/setup.c, arm64 arch/arm64/kernel/setup.c: code_resource).
  const start = must(iomemStart(iomem, "Kernel code"), "/proc/iomem has no kernel code");
  const distance =
    must(symbols.get("linux_banner"), "no linux_banner") - must(symbols.get("_text"), "no _text");
  const offset = must(offsetOf(image.pieces, start + Number(distance)), "the banner is outside the RAM");
  const version = must(await image.answers.text("version"), "no /proc/version").trim();
  const found = (await readAt(image.memoryPath, offset, version.length)).toString("latin1");
  if (found !== version)
    throw new LabError(`lab: frozen image: offset ${offset} has ${found}, not ${version}`);
}

const idsOf = (value: unknown): number[] => (value as { id: number }[]).map(({ id }) => id);

/** Checks that bpftool's list has every map that the zoo's loader holds. */
async function checkLists(image: FrozenImage): Promise<{ maps: number; progs: number }> {
  const maps = idsOf(must(await image.answers.json("map-show"), "bpftool listed no maps").value);
  const progs = idsOf(must(await image.answers.json("prog-show"), "bpftool listed no programs").value);
  const loader = await image.answers.json("loader");
  const held = loader === undefined ? [] : idsOf((loader.value as { maps: unknown }).maps);
  const missing = held.filter((id) => !maps.includes(id));
  if (missing.length > 0)
    throw new LabError(`lab: bpftool does not list the loader's maps ${missing.join(", ")}`);
  return { maps: maps.length, progs: progs.length };
}

/** Returns the number of maps and programs that bpftool listed. Throws `LabError` if the image contradicts an answer. */
export async function checkImage(image: FrozenImage): Promise<{ maps: number; progs: number }> {
  await checkBanner(image);
  return checkLists(image);
}
