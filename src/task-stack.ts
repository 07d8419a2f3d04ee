/** A task's kernel stack: what both data paths tell of it. */

export interface StackFrame {
  /** The return address; of the first frame behind an interrupt the address that was interrupted. undefined: /proc/PID/stack does not tell it. */
  readonly address: bigint | undefined;
  /** "do_wait+0x5a/0x120", "dummy_xmit+0x3/0x40 [dummy]": offset and size, as the kernel names return addresses; "" where no symbol is known. */
  readonly symbol: string;
}

export interface TaskStack {
  readonly pid: number;
  readonly tgid: number;
  /** Not printable yet. */
  readonly comm: string;
  /** Innermost first. */
  readonly frames: readonly StackFrame[];
  /** Why there are no more frames where the stack's own end was not reached; "" where it was. */
  readonly stopped: string;
}
