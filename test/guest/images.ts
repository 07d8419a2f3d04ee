/** Frozen machines of the lab: folders with `meta.json`, the memory, and the guest's answers from just before the freeze. */
import { describe, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { labSkipReason } from "../lab/availability.ts";
import { labDir } from "../lab/cache.ts";
import { frozenRow, labRows, stallRows } from "../lab/matrix.ts";
import { isSilent, type Stall } from "../lab/stall/run.ts";

export interface LabImage {
  readonly name: string;
  readonly memory: string;
  /** QEMU's ELF core of the same freeze. */
  readonly vmcore: string | undefined;
  readonly pieces: readonly { readonly gpa: number; readonly fileOffset: number; readonly size: number }[];
  /** Returns a file of answers as text; undefined if the guest gave none. */
  answer(name: string): string | undefined;
  answerBytes(name: string): Uint8Array | undefined;
}

/**
 * Returns the frozen machines to test: those in the folder `KTSTR_LAB_IMAGES`; or, if guests may be booted (`KTSTR_LAB=1`),
 * CI's rows of the lab's matrix, which are booted unless they are kept; or those that an earlier run kept. If there are none,
 * prints why, and throws if the lab was promised.
 */
export async function labImages(): Promise<LabImage[]> {
  const named = process.env["KTSTR_LAB_IMAGES"] ?? "";
  if (named !== "") return imagesIn(named);
  if (process.env["KTSTR_LAB"] !== undefined || process.env["KTSTR_REQUIRE_LAB"] === "1") {
    if ((await labSkipReason()) !== "") return [];
    const booted: LabImage[] = [];
    for (const row of labRows()) booted.push(labImage(row, (await frozenRow(row)).dir));
    return booted;
  }
  const kept = imagesIn(join(labDir(), "frozen"));
  if (kept.length === 0) console.warn("skipped: no frozen machine is kept here (KTSTR_LAB=1 boots them)");
  return kept;
}

/** `labImages`, and if guests may be booted, also the rows of the lab's own scheduler, which do not have the zoo. */
export async function labAndStallImages(): Promise<LabImage[]> {
  const images = await labImages();
  if ((process.env["KTSTR_LAB_IMAGES"] ?? "") !== "" || (await labSkipReason()) !== "") return images;
  for (const row of stallRows()) images.push(labImage(row, (await frozenRow(row)).dir));
  return images;
}

function imagesIn(folder: string): LabImage[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .map((name) => ({ name, dir: join(folder, name) }))
    .filter(({ name, dir }) => !name.startsWith(".") && existsSync(join(dir, "meta.json")))
    .map(({ name, dir }) => labImage(name, dir))
    .sort((a, b) => a.name.localeCompare(b.name));
}

/** Opens a frozen machine's folder, which has a `meta.json`. */
export function labImage(name: string, dir: string): LabImage {
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

/** Whether the answers are from just before the freeze: during some stalls the guest cannot answer. */
export function hasLateAnswers({ answer }: LabImage): boolean {
  const statement = answer("stall.json");
  if (statement === undefined) return true;
  const { kind, exit } = JSON.parse(statement) as Pick<Stall, "kind"> & { readonly exit?: object };
  return exit !== undefined || !isSilent(kind);
}

/** Runs `describe` for each machine, or one skipped test if there is none, so that it is counted. */
export function eachMachine(
  images: readonly LabImage[],
  body: (image: LabImage, name: string) => void,
): void {
  if (images.length === 0)
    test.skip("every frozen machine: none is kept here (KTSTR_LAB=1 boots them)", () => {});
  for (const image of images) describe(image.name, () => body(image, image.name));
}

/** Runs a test for each machine, whose name replaces `%s` in the title, or one skipped test if there is none. */
export function testEachMachine(
  images: readonly LabImage[],
  title: string,
  body: (image: LabImage) => void | Promise<void>,
  timeout?: number,
): void {
  if (images.length === 0) test.skip(title.replace("%s", "every frozen machine"), () => {});
  for (const image of images) test(title.replace("%s", image.name), () => body(image), timeout);
}

/** Returns bpftool's list without the objects of bpftool itself, which it loads to find holders (its pid_iter.bpf.c). */
export function withoutBpftools<T>(list: readonly T[]): T[] {
  return list.filter((one) => {
    const { pids = [] } = one as { readonly pids?: readonly { readonly comm: string }[] };
    return pids.length === 0 || pids.some(({ comm }) => comm !== "bpftool");
  });
}
