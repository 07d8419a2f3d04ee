/** Looks up kernel symbols by exact address in `/proc/kallsyms`, which shows addresses only with CAP_SYSLOG (else zeros). */
import type { Sys } from "./sys.ts";

export interface KernelSymbol {
  readonly name: string;
  /** Module of the symbol; null for the kernel itself. */
  readonly module: string | null;
}

const PATH = "/proc/kallsyms";

/**
 * Returns the symbols at exactly these addresses; the first of several aliases. On x86 kernels with IBT a probe is attached
 * after the `endbr` of a function, so a symbol four bytes before the address also matches.
 */
export function symbolsAt(sys: Sys, addresses: readonly bigint[]): ReadonlyMap<bigint, KernelSymbol> {
  const wanted = new Map<string, bigint>();
  for (const address of addresses) {
    wanted.set(hexDigits(address - ENDBR_BYTES), address);
  }
  // An exact match has priority over a symbol four bytes before.
  for (const address of addresses) wanted.set(hexDigits(address), address);
  const found = new Map<bigint, KernelSymbol>();
  const exact = new Set<bigint>();
  const bytes = wanted.size === 0 ? undefined : sys.readFile(PATH);
  if (bytes === undefined) return found;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  for (let start = 0, end = 0; start < text.length; start = end + 1) {
    end = text.indexOf("\n", start);
    if (end < 0) end = text.length;
    const digits = text.slice(start, start + DIGITS);
    const address = wanted.get(digits);
    if (address === undefined) continue;
    const isExact = digits === hexDigits(address);
    if (isExact ? exact.has(address) : found.has(address)) continue;
    if (isExact) exact.add(address);
    found.set(address, parse(text.slice(start, end)));
  }
  return found;
}

const DIGITS = 16;
const ENDBR_BYTES = 4n;

function hexDigits(address: bigint): string {
  return BigInt.asUintN(64, address).toString(16).padStart(DIGITS, "0");
}

/** Parses `ffffffff81000000 T _stext`; for modules a tab and ` [module]` follow. */
function parse(line: string): KernelSymbol {
  const [, name = "", module] = /^[0-9a-f]+ \S (\S+)(?:\s+\[(.*)\])?/.exec(line) ?? [];
  return { name, module: module ?? null };
}
