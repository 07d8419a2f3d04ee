/**
 * When the engine compiles what it interprets. Most commands are over before code that was compiled has paid for it: on two
 * processors the compiler's threads take their time from the only one that works (`inspect --sample`: 13 % of it).
 */

/** How many times more often than usual code has to run before it is compiled. */
const PATIENCE = 16;

/** From the start of a command. */
export function runPatiently(): void {
  // Bun 1.4.0 cannot be told.
  Bun.unsafe.setJITPolicy?.(PATIENCE);
}

/** From when a command turns out to be a long one. */
export function runEagerly(): void {
  Bun.unsafe.setJITPolicy?.(1);
}
