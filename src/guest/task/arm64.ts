/** Unwinds stacks on arm64 by frame records, like `kunwind_next` (arch/arm64/kernel/stacktrace.c). */
import { at, optional, place, struct, u64 } from "../../btf/struct.ts";
import type { Registers } from "./registers.ts";
import { isText, type UnwindTask, type Visit } from "./stack.ts";

const CPU_CONTEXT = struct("cpu_context", { fp: u64, pc: u64 });
const PT_REGS = struct("pt_regs", {
  regs: place,
  pc: u64,
  stackframe: at(optional(place, "since 5.10"), "stackframe"),
});
/** `FRAME_META_TYPE_PT_REGS` (arch/arm64/include/asm/stacktrace/frame.h, since 6.13): registers of an exception. */
const META_PT_REGS = 2n;
const FRAME_POINTER = 29n;
/** Kernel addresses have all of these bits set. Pointer authentication stores a code in them. */
const PAC_BITS = 0xffffn << 48n;

/**
 * Unwinds a sleeping task. Returns why it stopped; "" at the end of the stack. Throws `KtstrError`.
 *
 * @public Loaded by stack.ts.
 */
export function unwindArm64(what: UnwindTask, context: number, visit: Visit): string {
  const { pc, fp } = CPU_CONTEXT.resolve(what.kernel.btf);
  const { at } = what.task;
  return unwindFrom(
    what,
    at.u64(context + pc, "thread.cpu_context.pc"),
    at.u64(context + fp, "thread.cpu_context.fp"),
    visit,
  );
}

/**
 * Unwinds a running task from its CPU's registers.
 *
 * @public Loaded by stack.ts.
 */
export function unwindRunningArm64(what: UnwindTask, { ip, fp }: Registers, visit: Visit): string {
  return unwindFrom(what, ip, fp, visit);
}

function unwindFrom(what: UnwindTask, startPc: bigint, startFp: bigint, visit: Visit): string {
  const { kernel, stack } = what;
  const regs = PT_REGS.resolve(kernel.btf);
  let pc = startPc | PAC_BITS;
  let fp = startFp;
  for (;;) {
    if (!isText(what, pc)) return `0x${pc.toString(16)} on its stack is not an address of code`;
    if (!visit(pc)) return "it has more frames than fit in a stack";
    const [next, address] = [stack.u64(fp), stack.u64(fp + 8n)];
    if (next === undefined || address === undefined) return "a frame record is outside the stack";
    const before = fp;
    if (next === 0n && address === 0n) {
      // The record of an exception is zero. Its type follows it, and it is part of the saved registers.
      if (regs.stackframe === undefined || stack.u64(fp + 16n) !== META_PT_REGS) return "";
      const start = fp - BigInt(regs.stackframe);
      const [interrupted, pointer] = [
        stack.u64(start + BigInt(regs.pc)),
        stack.u64(start + BigInt(regs.regs) + 8n * FRAME_POINTER),
      ];
      if (interrupted === undefined || pointer === undefined)
        return "an exception's registers are outside the stack";
      pc = interrupted | PAC_BITS;
      fp = pointer;
    } else {
      pc = address | PAC_BITS;
      fp = next;
    }
    if (!stack.isCallerFrame(before, fp)) return "the caller's frame is not above its callee's";
  }
}
