/**
 * The finding `cpu-stuck`. The stacks are those of the lab's guest `stall-loop`: sid, whose ops.dispatch loops on CPU 1 while
 * CPU 0 flushes the TLBs of all CPUs. The variants have other waiting functions of the same kernel.
 */
import { describe, expect, test } from "bun:test";
import { type Finding, findingsOf } from "../../src/report/sched-findings.ts";
import { type SchedCpu, type SchedView, viewOfDump } from "../../src/report/sched-view.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { trace } from "../sched-text/texts.ts";

const SECOND = 1_000_000_000n;
const TICK = ["tick_nohz_handler+0x1d/0x170", "asm_sysvec_apic_timer_interrupt+0x1a/0x20"];
const EXIT = ["do_exit+0x289/0xb60", "entry_SYSCALL_64_after_hwframe+0x76/0x7e"];
const FLUSH = ["smp_call_function_many_cond+0x116/0x560", "flush_tlb_mm_range+0x285/0x730", ...EXIT];
const LOCK = ["native_queued_spin_lock_slowpath+0x80/0x300", "raw_spin_rq_lock_nested+0x1c/0x90", ...EXIT];
const DISPATCH = [
  "read_hpet+0x97/0x100",
  "bpf_prog_23196d9c8e07a754_inner_loop+0x19/0x4a [bpf]",
  "bpf_prog_fdd07f202fd6b371_stall_dispatch+0x12f/0x18b [bpf]",
  "bpf__sched_ext_ops_dispatch+0x50/0xad [bpf]",
  "do_pick_task_scx+0x389/0xaa0",
  "__schedule+0x65d/0x1070",
  "entry_SYSCALL_64_after_hwframe+0x76/0x7e",
];

const [dump] = parseLog(trace("7.3-sdt")).dumps;
const healthy = viewOfDump(dump!, "");
const { tasks: _, ...aCpu } = dump!.cpus[0]!;

interface Frozen {
  readonly clock: bigint;
  readonly stack: readonly string[];
  readonly isOff?: boolean;
  readonly schedClass?: string;
}

/** Findings about CPUs, numbered from 0. */
function findings(...cpus: readonly Frozen[]): Finding[] {
  const states = cpus.map(
    ({ clock, stack, isOff = true, schedClass = "ext_sched_class" }, cpu): SchedCpu => ({
      ...aCpu,
      cpu,
      currComm: "task",
      currPid: 10 + cpu,
      currClass: schedClass,
      clockNs: clock,
      stack,
      areInterruptsOff: isOff,
    }),
  );
  const view: SchedView = { ...healthy, tasks: [], queues: [], cpus: states };
  return findingsOf(view);
}

const started = 80n * SECOND;
const stuck: Frozen = { clock: started, stack: DISPATCH };

describe("a CPU whose clock is behind", () => {
  test.each<[string, Frozen]>([
    ["; CPU 0 waits until other CPUs have handled an interrupt", { clock: 0n, stack: FLUSH, isOff: false }],
    ["; CPU 0 waits until other CPUs have handled an interrupt", { clock: 0n, stack: [...TICK, ...FLUSH] }],
    ["; CPU 0 waits for a lock", { clock: 0n, stack: LOCK }],
    [
      "; CPU 0 waits in stop_machine until all CPUs have stopped",
      {
        clock: 0n,
        stack: ["stop_machine_yield+0x6/0x10", "multi_cpu_stop+0xa2/0x1b0", "ret_from_fork_asm+0x1a/0x30"],
        isOff: false,
        schedClass: "stop_sched_class",
      },
    ],
    [
      "; CPU 0 waits until a kicked CPU schedules",
      { clock: 0n, stack: ["kick_sync_wait_bal_cb+0xe0/0x1c0", "__schedule+0x700/0x1070"], isOff: false },
    ],
    ["", { clock: 0n, stack: [], isOff: false }],
    ["", { clock: 0n, stack: EXIT, isOff: false }],
  ])("another CPU's clock runs%s", (others, other) => {
    const [finding, ...more] = findings({ ...other, clock: started + 8n * SECOND }, stuck);
    expect(more).toEqual([]);
    expect(finding).toMatchObject({ kind: "cpu-stuck", waitMs: 8000 });
    expect(finding?.summary).toBe(
      `CPU 1 has been in the BPF program stall_dispatch since 80.000 s after boot, for 8.000 s, with interrupts off${others}`,
    );
    expect(finding?.cpus).toEqual(others === "" ? [1] : [1, 0]);
    if (others !== "")
      expect(finding?.details.at(-1)).toMatch(/^CPU 0 runs task\[10\], in (?!tick_|asm_|stop_machine_yield)/);
  });

  test("its idle task is the current one while it schedules", () => {
    const [finding] = findings(
      { clock: started + 8n * SECOND, stack: [], isOff: false },
      { ...stuck, schedClass: "idle_sched_class" },
    );
    expect(finding?.kind).toBe("cpu-stuck");
  });
});

describe("no CPU's clock runs", () => {
  test.each<[string, Frozen]>([
    ["for a lock", { clock: started, stack: LOCK }],
    [
      "for a lock",
      {
        clock: started,
        stack: ["kvm_wait+0x3c/0x50", "__pv_queued_spin_lock_slowpath+0x2a0/0x400", ...EXIT],
      },
    ],
    ["for a lock", { clock: started, stack: ["queued_spin_lock_slowpath+0x1b4/0x350", ...EXIT] }],
    // Until 6.18 the interrupt of the kick waits.
    [
      "until a kicked CPU schedules",
      { clock: started, stack: ["kick_cpus_irq_workfn+0x1c0/0x2d0", ...TICK] },
    ],
  ])("because the other CPU waits %s", (what, other) => {
    const [finding] = findings(other, { ...stuck, clock: started + SECOND / 2n });
    expect(finding?.summary).toBe(
      `CPU 1 has been in the BPF program stall_dispatch since 80.500 s after boot, CPU 0 waits ${what}, and all CPUs have interrupts off: the kernel's clock does not run`,
    );
    expect(finding?.details[0]).toContain("end 80.500 s after boot");
  });

  test("several CPUs wait", () => {
    const waits = { clock: started, stack: LOCK };
    expect(findings(waits, stuck, waits)[0]?.summary).toContain(", 2 CPUs wait for a lock, and all CPUs");
  });
});

describe("a healthy machine at an unlucky moment has no finding:", () => {
  const near = started + SECOND;
  test.each<[string, readonly Frozen[]]>([
    ["a program runs", [{ clock: near, stack: EXIT, isOff: false }, stuck]],
    ["a program runs while a CPU waits for its answer", [{ clock: near, stack: FLUSH, isOff: false }, stuck]],
    [
      "a program runs while a CPU that waits for its answer handles a tick",
      [{ clock: near, stack: [...TICK, ...FLUSH] }, stuck],
    ],
    [
      "a kick is being sent",
      [{ clock: near, stack: ["try_to_wake_up+0x1/0x2", "kick_cpus_irq_workfn+0x80/0x2d0"] }, stuck],
    ],
    [
      "an idle CPU sleeps",
      [
        { clock: started + 60n * SECOND, stack: [], isOff: false },
        { clock: started, stack: [], isOff: false, schedClass: "idle_sched_class" },
      ],
    ],
    [
      "an interrupt wakes a task on a CPU that was idle",
      [
        { clock: started + 60n * SECOND, stack: [], isOff: false },
        {
          clock: started,
          stack: [
            "bpf_prog_fdd07f202fd6b371_stall_select_cpu+0x1/0x8",
            "try_to_wake_up+0x1/0x2",
            ...TICK,
            "do_idle+0x1/0x2",
          ],
          schedClass: "idle_sched_class",
        },
      ],
    ],
    [
      "a program that may be interrupted",
      [
        { clock: started + 60n * SECOND, stack: EXIT, isOff: false },
        { ...stuck, isOff: false },
      ],
    ],
    [
      "two CPUs wait for a lock of each other",
      [
        { clock: started, stack: LOCK },
        { clock: started, stack: LOCK },
      ],
    ],
  ])("%s", (_, cpus) => {
    expect(findings(...cpus)).toEqual([]);
  });

  test("without registers", () => {
    const view: SchedView = {
      ...healthy,
      tasks: [],
      queues: [],
      cpus: [
        { ...aCpu, clockNs: started },
        { ...aCpu, cpu: 1, clockNs: started + 60n * SECOND },
      ],
    };
    expect(findingsOf(view)).toEqual([]);
  });
});
