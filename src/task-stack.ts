/** The kernel stack of a task. Both data paths return this type. */

export interface StackFrame {
  /**
   * The return address; for the first frame after an interrupt, the interrupted address. undefined if unknown:
   * /proc/PID/stack has no addresses.
   */
  readonly address: bigint | undefined;
  /**
   * Symbol with offset and size, as the kernel prints return addresses: "do_wait+0x5a/0x120", "dummy_xmit+0x3/0x40 [dummy]".
   * "" if unknown.
   */
  readonly symbol: string;
}

export interface TaskStack {
  readonly pid: number;
  readonly tgid: number;
  /** Not escaped. */
  readonly comm: string;
  /** Innermost first. */
  readonly frames: readonly StackFrame[];
  /** Why the unwinder stopped before the end of the stack; "" if it reached the end. */
  readonly stopped: string;
}
