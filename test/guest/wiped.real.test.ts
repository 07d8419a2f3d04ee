/**
 * Frozen machines of the lab with init_uts_ns or VMCOREINFO overwritten in a copy of their memory, then also with
 * the variables and page tables that locate the image and the page tables. The answers are those of the whole memory.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type GuestState, openGuest } from "../../src/guest/guest.ts";
import { type OpenedKernel, openKernel } from "../../src/guest/kernel/kernel.ts";
import { buildInspection } from "../../src/report/inspection.ts";
import { inspectionJson } from "../../src/report/inspection-json.ts";
import { stringify } from "../../src/report/json.ts";
import { eachMachine, type LabImage, labImages } from "./images.ts";

const images = await labImages();
const COPY_MS = 120_000;
const PAGE = 4096;
const CHUNK = 2 ** 24;

const json = (guest: GuestState): string => stringify(inspectionJson(buildInspection(guest, 4)));

interface Answer {
  readonly text: string;
  readonly kernel: string;
  readonly how: string;
  readonly release: string;
}

function answerOf(memory: string): Answer {
  using guest = openGuest({ memory });
  const explained = new Map(guest.explain().map(({ what, text }) => [what, text]));
  return {
    text: json(guest),
    how: explained.get("VMCOREINFO") ?? "",
    release: explained.get("kernel") ?? "",
    kernel: `${explained.get("kernel image")}; ${explained.get("page tables")}`,
  };
}

/** Overwrites every page with VMCOREINFO as text or as a note, and its first word elsewhere. Returns the number of places. */
function wipeVmcoreinfo(path: string): number {
  const file = openSync(path, "r+");
  let count = 0;
  const buffer = Buffer.alloc(CHUNK);
  for (let at = 0; ; at += CHUNK) {
    const length = readSync(file, buffer, 0, CHUNK, at);
    if (length === 0) break;
    const bytes = buffer.subarray(0, length);
    for (
      let found = bytes.indexOf("OSRELEASE=");
      found >= 0;
      found = bytes.indexOf("OSRELEASE=", found + 1)
    ) {
      const isOwn = [0, 24].includes(found % PAGE) && bytes[found + 10] !== 0x25;
      if (isOwn) writeSync(file, Buffer.alloc(PAGE), 0, PAGE, at + found - (found % PAGE));
      else writeSync(file, Buffer.alloc(10), 0, 10, at + found);
      count++;
    }
  }
  closeSync(file);
  return count;
}

/** Writes zeros, or `bytes`, at a physical address. Returns the bytes that were there. */
function wipe(
  path: string,
  { found }: OpenedKernel,
  physical: number,
  length: number,
  bytes = Buffer.alloc(length),
): Buffer<ArrayBuffer> {
  const piece = found.layout.find(
    (each) => physical >= each.physical && physical < each.physical + each.length,
  )!;
  const file = openSync(path, "r+");
  const at = physical - piece.physical + piece.fileOffset;
  const before = Buffer.alloc(length);
  readSync(file, before, 0, length, at);
  writeSync(file, bytes, 0, length, at);
  closeSync(file);
  return before;
}

/** More than the names in `init_uts_ns` (include/uapi/linux/utsname.h: six of 65 bytes, after a reference count). */
const UTS_BYTES = 400;

const symbolOf = (image: LabImage, name: string): string =>
  new RegExp(`^([0-9a-f]{16}) \\S ${name}$`, "m").exec(image.answer("kallsyms")!)![1]!;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(process.env["KTSTR_LAB_TMP"] ?? tmpdir(), "ktstr-wiped-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function copyOf(image: LabImage): Promise<string> {
  const path = join(folder, "mem");
  expect(await Bun.spawn(["cp", "--sparse=always", image.memory, path]).exited).toBe(0);
  return path;
}

eachMachine(images, (image) => {
  test(
    "without init_uts_ns, without VMCOREINFO, then without the kernel's variables, then without its top page table",
    async () => {
      const whole = answerOf(image.memory);
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const { machine } = kernel.found;
      const path = await copyOf(image);

      // The release is then that of linux_banner, which is constant.
      const uts = Number(BigInt(`0x${symbolOf(image, "init_uts_ns")}`) - machine.imageOffset);
      const names = wipe(path, kernel, uts, UTS_BYTES);
      expect(names.includes(`\0${kernel.release}\0`)).toBe(true);
      const banner = ", confirmed by linux_banner: init_uts_ns is overwritten";
      const named = answerOf(path);
      expect([named.release, named.how]).toEqual([`${whole.release}${banner}`, whole.how]);
      expect(named.text === whole.text).toBe(true);
      wipe(path, kernel, uts, UTS_BYTES, names);

      expect(wipeVmcoreinfo(path)).toBeGreaterThan(1);
      const first = answerOf(path);
      expect(first.how).toBe("not in this memory; derived from the kernel's symbol table");
      expect(first.kernel).toBe(whole.kernel);
      expect(first.text === whole.text).toBe(true);

      // Variables with the addresses of the image and of the direct map.
      let variables = 0;
      for (const [, address = "", name = ""] of image
        .answer("kallsyms")!
        .matchAll(/^([0-9a-f]{16}) \S (phys_base|kimage_voffset|memstart_addr)$/gm)) {
        wipe(path, kernel, Number(BigInt(`0x${address}`) - machine.imageOffset), 8);
        expect(name).not.toBe("");
        variables++;
      }
      expect(variables).toBe(machine.machine === "x86_64" ? 1 : 2);
      const second = answerOf(path);
      expect(second.kernel).toBe(whole.kernel);
      expect(second.text === whole.text).toBe(true);

      wipe(path, kernel, uts, UTS_BYTES);
      const unnamed = answerOf(path);
      expect(unnamed.release).toEndWith(banner);
      expect(unnamed.text === whole.text).toBe(true);
      wipe(path, kernel, uts, UTS_BYTES, names);

      // On x86-64 each process has a top table with the kernel's half; on arm64 there is one.
      if (machine.machine !== "x86_64") return;
      wipe(path, kernel, machine.root, PAGE);
      const third = answerOf(path);
      expect(third.kernel).not.toBe(whole.kernel);
      expect(third.kernel.split(";")[0]).toBe(whole.kernel.split(";")[0]!);
      expect(third.text === whole.text).toBe(true);
    },
    COPY_MS,
  );
});
