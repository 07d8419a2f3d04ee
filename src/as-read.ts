import { KtstrError } from "./errors.ts";
import { found, type Read, unreadable } from "./state.ts";

/** What `read` answers; an error of ours is `not-present` with its sentence. */
export function asRead<T>(read: () => T): Read<T> {
  try {
    return found(read());
  } catch (error) {
    if (error instanceof KtstrError) return unreadable("not-present", error.message);
    throw error;
  }
}
