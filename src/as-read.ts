import { KtstrError } from "./errors.ts";
import { found, type Read, unreadable } from "./state.ts";

/** Converts a function that throws to a `Read`. A `KtstrError` becomes `not-present` with its message. */
export function asRead<T>(read: () => T): Read<T> {
  try {
    return found(read());
  } catch (error) {
    if (error instanceof KtstrError) return unreadable("not-present", error.message);
    throw error;
  }
}
