/**
 * Sets how often code runs before the engine compiles it. Most commands end before compiled code has saved the time of
 * its compilation. On two processors the compiler's threads also take time from the main thread: 13 % of
 * `inspect --sample`.
 */

/** Factor on the engine's thresholds: code runs this many times more often before it is compiled. */
const THRESHOLD_FACTOR = 64;

let factor = 1;

/** Raises the thresholds. Called at the start of a command. */
export function raiseJitThreshold(): void {
  setFactor(THRESHOLD_FACTOR);
}

/** Restores the engine's thresholds, for commands that run long. */
export function resetJitThreshold(): void {
  setFactor(1);
}

/** Runs code with a long loop under the engine's own thresholds. */
export function compileEarly<T>(run: () => T): T {
  const before = factor;
  setFactor(1);
  try {
    return run();
  } finally {
    setFactor(before);
  }
}

function setFactor(wanted: number): void {
  if (wanted === factor) return;
  factor = wanted;
  // Bun 1.4.0 does not have this function.
  Bun.unsafe.setJITPolicy?.(wanted);
}
