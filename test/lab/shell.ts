/** `bun run lab shell`: a guest whose console is this terminal. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildBpftool } from "./bpftool.ts";
import type { BootOptions } from "./frozen.ts";
import { baseInitramfs } from "./initramfs.ts";
import { fetchKernel, kernelSources } from "./kernels.ts";
import { ktstrOverlay } from "./ktstr.ts";
import { loadOverlay } from "./load.ts";
import { startQemu } from "./qemu.ts";
import { schedulerNames } from "./schedulers.ts";

/** Boots to a shell and waits for its end. Returns QEMU's exit status. The guest has every scheduler and the zoo's loader. */
export async function shell(options: BootOptions): Promise<number> {
  const kernel = await fetchKernel(options.kernel);
  const dir = await mkdtemp(join(tmpdir(), "ktstr-lab-"));
  try {
    const schedulers = kernelSources[kernel.name].hasSchedExt ? schedulerNames : [];
    const base = await baseInitramfs(kernel.arch, await buildBpftool(kernel.arch));
    const archives = [base, await loadOverlay({ schedulers, zoo: true }, kernel)];
    if (options.withKtstr === true) archives.push(await ktstrOverlay(kernel.arch));
    const initrd = join(dir, "initrd");
    for (const archive of archives) await writeFile(initrd, archive, { flag: "a" });
    const { cpus = 2, memoryMiB = 1536, fiveLevel = true } = options;
    const where = { kernel, initrd, dir, sockets: dir };
    await using machine = await startQemu({ ...where, cpus, memoryMiB, fiveLevel, interactive: true });
    return await machine.child.exited;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
