/** Lists the objects of an IDR one by one, and reports those that could not be read. */
import { KtstrError } from "../../errors.ts";
import { GuestFault } from "../memory/fault.ts";
import type { Pointer } from "../memory/pointer.ts";
import { idrEntries } from "./idr.ts";
import type { GuestKernel } from "./kernel.ts";
import { requireSymbol } from "./symbols.ts";
import { WalkLog } from "./walklog.ts";

export type Warn = (sentence: string) => void;

/** Reads one object. A returned string says why there is nothing to show. A `KtstrError` skips the object. */
export type ReadObject<T extends object> = (at: Pointer, id: number, log: WalkLog) => T | string;

/**
 * Returns every object of the `struct idr` at a symbol, by ascending id. `what` is the object's name in messages ("program").
 * Objects that could not be read are counted in one warning. Throws `KtstrError` if there is no such symbol.
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
  warnAbout(log, symbol, warn);
  return objects;
}

/** Reads one attribute of an object. If it cannot be read, this is counted, and `instead` is returned. */
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

/** Warns, in one sentence, about the parts of `name` that a listing could not read. */
function warnAbout(log: WalkLog, name: string, warn: Warn): void {
  if (log.complete) return;
  const counts = [...log.skipped].map(([reason, count]) => `${count} × ${reason}`);
  const all = log.stopped === "" ? counts : [`the walk was stopped (${log.stopped})`, ...counts];
  const details = log.details.length === 0 ? "" : `: ${log.details.join("; ")}`;
  warn(`${name}: not everything could be read: ${all.join(", ")}${details}`);
}
