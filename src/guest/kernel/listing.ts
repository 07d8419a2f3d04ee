/** What every listing of an IDR's objects does: reads one after the other, and keeps account of what it could not. */
import { KtstrError } from "../../errors.ts";
import { GuestFault } from "../memory/fault.ts";
import type { Pointer } from "../memory/pointer.ts";
import { idrEntries } from "./idr.ts";
import type { GuestKernel } from "./kernel.ts";
import { requireSymbol } from "./symbols.ts";
import { WalkLog } from "./walklog.ts";

export type Warn = (sentence: string) => void;

/** Reads one object. A string says why there is nothing to show; a `KtstrError` leaves the object out. */
export type ReadObject<T extends object> = (at: Pointer, id: number, log: WalkLog) => T | string;

/**
 * Every object of the `struct idr` behind a symbol, by ascending id. `what` names one of them ("program"). What could
 * not be read is counted, and told in one sentence. Throws `KtstrError` if there is no such symbol.
 */
export function listObjects<T extends object>(
  kernel: GuestKernel,
  symbol: string,
  what: string,
  read: ReadObject<T>,
  warn: Warn,
): T[] {
  const idr = requireSymbol(kernel.symbols, symbol);
  const log = new WalkLog();
  const objects: T[] = [];
  for (const { id, address } of idrEntries(kernel.memory, kernel.btf, idr, symbol, log)) {
    try {
      const object = read(address, id, log);
      if (typeof object === "string") log.skip(object, `${what} ${id}: ${object}`);
      else objects.push(object);
    } catch (error) {
      skipError(log, `${what} ${id}`, error);
    }
  }
  tell(log, symbol, warn);
  return objects;
}

/** One attribute of an object; where it cannot be read, `instead`, and that is counted. */
export function attempt<T>(log: WalkLog, attribute: string, instead: T, read: () => T): T {
  try {
    return read();
  } catch (error) {
    skipError(log, attribute, error);
    return instead;
  }
}

function skipError(log: WalkLog, object: string, error: unknown): void {
  if (!(error instanceof KtstrError)) throw error;
  log.skip(error instanceof GuestFault ? `memory ${error.reason}` : "corrupt", `${object}: ${error.message}`);
}

/** Tells in one sentence what a listing of `name` could not read; nothing where it read all. */
function tell(log: WalkLog, name: string, warn: Warn): void {
  if (log.complete) return;
  const counts = [...log.skipped].map(([reason, count]) => `${count} × ${reason}`);
  const all = log.stopped === "" ? counts : [`the walk stopped (${log.stopped})`, ...counts];
  const details = log.details.length === 0 ? "" : `: ${log.details.join("; ")}`;
  warn(`${name}: not everything was read, ${all.join(", ")}${details}`);
}
