/** Per-CPU chunks of a damaged kernel. */
import { expect, test } from "bun:test";
import { KtstrError } from "../../src/errors.ts";
import { PerCpuChunks } from "../../src/guest/bpf/maps/percpu-chunks.ts";
import type { GuestKernel } from "../../src/guest/kernel/kernel.ts";

test("a machine whose mask of possible CPUs is empty is an error", () => {
  const kernel = { cpus: { possible: [], onlineCount: 0, areas: [], missing: [] } } as unknown as GuestKernel;
  expect(() => new PerCpuChunks(kernel)).toThrow(KtstrError);
});
