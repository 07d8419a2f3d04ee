/** Kernel stacks of frozen machines, compared with their own /proc/PID/stack before the freeze. */
import { describe, expect } from "bun:test";
import { struct, u64 } from "../../src/btf/struct.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { AddressNames } from "../../src/guest/kernel/names-at.ts";
import { tasks } from "../../src/guest/kernel/tasks.ts";
import { readTaskStack, readTaskStacks } from "../../src/guest/task/stack.ts";
import { labImages, testEachMachine } from "./images.ts";
import { expectSameStacks } from "./support/stack-answers.ts";

const SWITCHES = struct("task_struct", { nvcsw: u64, nivcsw: u64 });
const images = (await labImages()).filter(({ answer }) => answer("task-stack") !== undefined);

describe("kernel stacks in memory", () => {
  testEachMachine(
    images,
    "%s: every task that slept has the stack of /proc/PID/stack",
    (image) => {
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const { nvcsw, nivcsw } = SWITCHES.resolve(kernel.btf);
      const switches = new Map(
        [...tasks(kernel)].map(({ pid, at }) => [
          pid,
          `${at.u64(nvcsw, "nvcsw")},${at.u64(nivcsw, "nivcsw")}`,
        ]),
      );
      const compared = expectSameStacks(
        kernel,
        readTaskStacks(kernel, new AddressNames(kernel)),
        (pid) => switches.get(pid) ?? "",
        { stack: image.answer("task-stack")!, status: image.answer("task-status")! },
      );
      console.log(`${image.name}: ${compared} stacks`);
      // kthreadd sleeps, while init may be running on a CPU.
      expect(readTaskStack(kernel, new AddressNames(kernel), 2).frames.length).toBeGreaterThan(3);
      expect(() => readTaskStack(kernel, new AddressNames(kernel), 4_000_000)).toThrow("no such task");
      expect(compared).toBeGreaterThanOrEqual(60);
    },
    60_000,
  );
});
