/** `enum scx_exit_kind` and `scx_exit_reason()` (kernel/sched/ext). The numbers are the same in all releases, 6.12 to 7.3. */

const KINDS: readonly (readonly [kind: number, name: string, reason: string])[] = [
  [0, "SCX_EXIT_NONE", ""],
  [1, "SCX_EXIT_DONE", ""],
  [64, "SCX_EXIT_UNREG", "unregistered from user space"],
  [65, "SCX_EXIT_UNREG_BPF", "unregistered from BPF"],
  [66, "SCX_EXIT_UNREG_KERN", "unregistered from the main kernel"],
  [67, "SCX_EXIT_SYSRQ", "disabled by sysrq-S"],
  [68, "SCX_EXIT_PARENT", "parent exiting"],
  [69, "SCX_EXIT_PARENT_KILL", ""],
  [1024, "SCX_EXIT_ERROR", "runtime error"],
  [1025, "SCX_EXIT_ERROR_BPF", "scx_bpf_error"],
  [1026, "SCX_EXIT_ERROR_STALL", "runnable task stall"],
  [1027, "SCX_EXIT_ERROR_REENQ", ""],
  [1028, "SCX_EXIT_ERROR_RESCUE", ""],
];

/** Returns the name of an exit kind: "SCX_EXIT_ERROR_STALL", or "exit kind 7" if it is unknown. */
export const exitKindText = (kind: number): string =>
  KINDS.find(([number]) => number === kind)?.[1] ?? `exit kind ${kind}`;

/** Returns the exit kind for the kernel's reason text, or undefined if the text is unknown. */
export const exitKindOf = (reason: string): number | undefined =>
  reason === "" ? undefined : KINDS.find(([, , words]) => words === reason)?.[0];
