/** Unwinds stacks on x86-64, like `unwind_next_frame` (arch/x86/kernel/unwind_orc.c). */
import { at, place, struct, u64 } from "../../btf/struct.ts";
import { fromBigInt } from "../memory/pointer.ts";
import { FRAME_POINTER_ENTRY, type OrcEntry, OrcTables } from "./orc.ts";
import type { Registers } from "./registers.ts";
import { isText, type UnwindTask, type Visit } from "./stack.ts";

const INACTIVE_TASK_FRAME = struct("inactive_task_frame", { bp: u64, ret_addr: u64 });
const PT_REGS = struct("pt_regs", {
  ip: u64,
  sp: u64,
  bp: u64,
  cs: at(place, "cs", "csx"),
});
/** The two lowest bits of CS are the privilege level: 3 is user space. */
const USER_MODE = 3n;

/**
 * Unwinds a sleeping task. Returns why it stopped; "" at the end of the stack. Throws `KtstrError`.
 *
 * @public Loaded by stack.ts.
 */
export function unwindX86(what: UnwindTask, saved: bigint, visit: Visit): string {
  const { kernel, stack } = what;
  const frame = INACTIVE_TASK_FRAME.resolve(kernel.btf);
  const forkAddress = kernel.symbols.address("ret_from_fork_asm") ?? kernel.symbols.address("ret_from_fork");
  if (!stack.holds(saved, frame.sizeof)) return "its saved stack pointer does not point into its stack";
  const ip = stack.u64(saved + BigInt(frame.ret_addr))!;
  return unwindFrom(
    what,
    {
      ip,
      bp: stack.u64(saved + BigInt(frame.bp))!,
      sp: saved + BigInt(frame.sizeof),
      // A task that never ran starts at this instruction; it is not a return address.
      signal: forkAddress !== undefined && ip === BigInt.asUintN(64, bigOf(forkAddress)),
    },
    visit,
  );
}

interface Start {
  readonly ip: bigint;
  readonly bp: bigint;
  readonly sp: bigint;
  /** Whether `ip` is the next instruction to execute, not a return address. */
  readonly signal: boolean;
}

/**
 * Unwinds a running task from its CPU's registers.
 *
 * @public Loaded by stack.ts.
 */
export function unwindRunningX86(what: UnwindTask, { ip, sp, fp }: Registers, visit: Visit): string {
  return unwindFrom(what, { ip, sp, bp: fp, signal: true }, visit);
}

function unwindFrom(what: UnwindTask, start: Start, visit: Visit): string {
  const { kernel, stack } = what;
  const regs = PT_REGS.resolve(kernel.btf);
  const orc = new OrcTables(kernel);
  let { ip, bp, sp, signal } = start;
  let inThunk = false;
  for (;;) {
    if (!isText(what, ip)) return `0x${ip.toString(16)} on its stack is not an address of code`;
    if (!visit(ip)) return "it has more frames than fit in a stack";
    inThunk = (signal || inThunk) && isInThunk(what, ip);
    const entry = inThunk ? THUNK_ENTRY : entryAt(what, orc, signal ? ip : ip - 1n);
    if (entry === undefined || entry.type === "undefined")
      return "the kernel's ORC tables have no entry for it";
    if (entry.type === "end") return "";
    const before = sp;
    const previous = previousSp(what, entry, sp, bp);
    if (previous === undefined) return "the caller's stack pointer is not known";
    signal = entry.signal;
    if (entry.type === "call") {
      const address = stack.u64(previous - 8n);
      if (address === undefined) return "the caller's frame is outside the stack";
      ip = address;
      sp = previous;
      const known = callerBp(what, entry, previous, bp);
      if (known === undefined) return "the caller's frame pointer is outside the stack";
      bp = known;
    } else {
      // `regs-partial`: the stack holds only the registers that the processor pushed, from ip on.
      const start = previous - (entry.type === "regs" ? 0n : BigInt(regs.ip));
      const read = (offset: number): bigint | undefined => stack.u64(start + BigInt(offset));
      const [nextIp, cs, nextSp] = [read(regs.ip), read(regs.cs), read(regs.sp)];
      if (nextIp === undefined || cs === undefined || nextSp === undefined)
        return "an interrupt's registers are outside the stack";
      if ((cs & USER_MODE) === USER_MODE) return "";
      ip = nextIp;
      sp = nextSp;
      if (entry.type === "regs") bp = read(regs.bp) ?? bp;
    }
    if (!stack.isCallerFrame(before, sp)) return "the caller's frame is not above its callee's";
  }
}

const bigOf = ({ hi, lo }: { hi: number; lo: number }): bigint =>
  (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);

/**
 * Returns whether the processor is in a thunk for indirect calls or returns (arch/x86/lib/retpoline.S). Most of its instructions
 * have no usable ORC entry. It is entered with a return address on top of the stack, and calls only itself.
 */
const isInThunk = ({ names }: UnwindTask, ip: bigint): boolean =>
  THUNK.test(names.find(fromBigInt(ip))?.name ?? "");
const THUNK = /^(?:__pi_)?(?:__x86_indirect_|__x86_return_|srso_|retbleed_|its_)(?:\w+_)?thunk/;
const THUNK_ENTRY: OrcEntry = {
  spOffset: 8,
  bpOffset: 0,
  spReg: "sp",
  bpReg: "undefined",
  type: "call",
  signal: false,
};

/** BPF programs keep a frame pointer (arch/x86/net/bpf_jit_comp.c) and have no ORC entries. */
function entryAt({ names }: UnwindTask, orc: OrcTables, address: bigint): OrcEntry | undefined {
  const at = fromBigInt(address);
  const found = names.find(at);
  if (found?.module === "bpf") return FRAME_POINTER_ENTRY;
  if (found === undefined || found.module === "") return orc.inKernel(at);
  const module = names.moduleAt(at);
  return module === undefined ? undefined : orc.inModule(module, at);
}

function previousSp({ stack }: UnwindTask, entry: OrcEntry, sp: bigint, bp: bigint): bigint | undefined {
  const offset = BigInt(entry.spOffset);
  switch (entry.spReg) {
    case "sp":
      return sp + offset;
    case "bp":
      return bp + offset;
    case "sp-indirect": {
      const held = stack.u64(sp);
      return held === undefined ? undefined : held + offset;
    }
    case "bp-indirect":
      return stack.u64(bp + offset);
    default:
      return undefined;
  }
}

function callerBp({ stack }: UnwindTask, entry: OrcEntry, sp: bigint, bp: bigint): bigint | undefined {
  const offset = BigInt(entry.bpOffset);
  if (entry.bpReg === "prev-sp") return stack.u64(sp + offset);
  if (entry.bpReg === "bp") return stack.u64(bp + offset);
  return entry.bpReg === "undefined" ? bp : undefined;
}
