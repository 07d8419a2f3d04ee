/** Kernel stacks of frozen machines, compared with their own /proc/PID/stack before the freeze. */
import { describe, expect } from "bun:test";
import { at, ptr, struct, u64 } from "../../src/btf/struct.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { AddressNames } from "../../src/guest/kernel/names-at.ts";
import { tasks } from "../../src/guest/kernel/tasks.ts";
import { toBigInt } from "../../src/guest/memory/pointer.ts";
import { readTaskStack, readTaskStacks, StackMemory } from "../../src/guest/task/stack.ts";
import { unwindRunningX86 } from "../../src/guest/task/x86.ts";
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

const KTHREADD = 2;
const SLEEPING = struct("task_struct", { stack: ptr, sp: at(u64, "thread.sp") });
const INACTIVE_TASK_FRAME = struct("inactive_task_frame", { bp: u64, ret_addr: u64 });
const STACK_BYTES = 16_384n;

/**
 * A processor that enters a thunk has the return address on top of its stack. The registers of such a processor are made for the
 * stack of kthreadd, which sleeps, so that its callers are known.
 */
describe("a processor in a thunk for indirect calls or returns", () => {
  testEachMachine(
    images.filter(({ answer }) => answer("machine")?.trim() !== "aarch64"),
    "%s: its stack continues with the caller",
    (image) => {
      using kernel = openKernel({ memory: [{ path: image.memory }] });
      const names = new AddressNames(kernel);
      const { stack: base, sp } = SLEEPING.resolve(kernel.btf);
      const frame = INACTIVE_TASK_FRAME.resolve(kernel.btf);
      const task = [...tasks(kernel)].find(({ pid }) => pid === KTHREADD)!;
      const low = task.at.u64(base, "stack");
      const stack = new StackMemory(kernel, [{ low, high: low + STACK_BYTES }]);
      const saved = task.at.u64(sp, "thread.sp");
      const callers = readTaskStack(kernel, names, KTHREADD).frames.map(({ address }) => address);
      expect(callers.length).toBeGreaterThan(3);
      for (const name of ["__x86_indirect_thunk_rax", "__x86_indirect_thunk_r11", "__x86_return_thunk"]) {
        const thunk = kernel.symbols.address(name);
        // The return thunk exists since 5.19, and in later releases of 5.10.
        if (name === "__x86_return_thunk" && thunk === undefined) continue;
        const ip = toBigInt(thunk!.hi, thunk!.lo);
        const visited: bigint[] = [];
        const why = unwindRunningX86(
          { kernel, names, stack, task },
          {
            ip,
            sp: saved + BigInt(frame.ret_addr),
            fp: stack.u64(saved + BigInt(frame.bp))!,
            isUser: false,
            areInterruptsOff: true,
          },
          (address) => visited.push(address) < 64,
        );
        expect(why).toBe("");
        expect(visited.map(String)).toEqual([ip, ...callers].map(String));
      }
    },
    60_000,
  );
});
