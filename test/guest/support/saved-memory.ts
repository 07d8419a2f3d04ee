/** Memory of synthetic kernels as files, and queries of tests on an opened kernel. */
import { afterAll, beforeAll } from "bun:test";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type GuestKernel, openKernel } from "../../../src/guest/kernel/kernel.ts";
import { toBigInt } from "../../../src/guest/memory/pointer.ts";
import type { SyntheticKernel } from "../machine.ts";

interface SavedMemories {
  newPath(): string;
  save(kernel: SyntheticKernel): string;
  /** Writes a file of `size` bytes, a hole except for the kernel's memory at `offset`. */
  saveAt(kernel: SyntheticKernel, offset: number, size: number): string;
}

/** Files in a folder that is removed after the tests of the calling file. */
export function savedMemories(): SavedMemories {
  let folder = "";
  let serial = 0;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-kernel-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const newPath = (): string => join(folder, `mem-${serial++}`);
  return {
    newPath,
    save(kernel): string {
      const path = newPath();
      writeFileSync(path, kernel.machine.bytes);
      return path;
    },
    saveAt(kernel, offset, size): string {
      const path = newPath();
      const fd = openSync(path, "w");
      ftruncateSync(fd, size);
      writeSync(fd, kernel.machine.bytes, 0, kernel.machine.bytes.length, offset);
      closeSync(fd);
      return path;
    },
  };
}

export const open = (path: string, physical?: number): GuestKernel =>
  openKernel({ memory: [physical === undefined ? { path } : { path, physical }] });

export const pointerOf = (kernel: GuestKernel, name: string): bigint | undefined => {
  const at = kernel.symbols.address(name);
  return at === undefined ? undefined : toBigInt(at.hi, at.lo);
};
