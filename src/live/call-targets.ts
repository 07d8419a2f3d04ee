/** What programs call, by `/proc/kallsyms`, whose addresses only CAP_SYSLOG may see (zeros to others). */
import { type CallTargets, calledAddresses, NO_TARGETS, type ProgCode } from "../prog-code.ts";
import { pickAlias } from "../uapi/alias.ts";
import type { Sys } from "./sys.ts";

const PATH = "/proc/kallsyms";
const DIGITS = 16;

/** The names of all that these programs call. Reads the file once, and not where only helpers are called. */
export function readCallTargets(sys: Sys, codes: readonly ProgCode[]): CallTargets {
  // The kernel takes longer to write this file than all else takes.
  if (codes.every((code) => calledAddresses(code, 0n).length === 0)) return NO_TARGETS;
  const bytes = sys.readFile(PATH);
  if (bytes === undefined) return NO_TARGETS;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  const base = BigInt(`0x${/^([0-9a-f]+) \S __bpf_call_base$/m.exec(text)?.[1] ?? "0"}`);
  if (base === 0n) return NO_TARGETS;
  const wanted = new Map<string, bigint>();
  for (const code of codes)
    for (const address of calledAddresses(code, base))
      wanted.set(address.toString(16).padStart(DIGITS, "0"), address);
  const found = new Map<bigint, string[]>();
  if (wanted.size > 0)
    for (let start = 0, end = 0; start < text.length; start = end + 1) {
      end = text.indexOf("\n", start);
      if (end < 0) end = text.length;
      const address = wanted.get(text.slice(start, start + DIGITS));
      if (address === undefined) continue;
      // `ffffffff81000000 T _stext` or, tab-separated, ` [module]` behind it.
      const [name = ""] = /\S+/.exec(text.slice(start + DIGITS + 3, end)) ?? [];
      const names = found.get(address);
      if (names === undefined) found.set(address, [name]);
      else names.push(name);
    }
  const names = new Map<bigint, string>();
  for (const [address, all] of found)
    names.set(address, all.length === 1 ? all[0]! : pickAlias(all, address, () => addressesOf(text)));
  return { base, names };
}

/** The low halves of all addresses that are shown. */
function* addressesOf(text: string): Generator<number> {
  for (let start = 0; start < text.length; ) {
    const low = Number.parseInt(text.slice(start + DIGITS / 2, start + DIGITS), 16);
    if (low !== 0 || !text.startsWith("00000000", start)) yield low;
    const end = text.indexOf("\n", start);
    start = end < 0 ? text.length : end + 1;
  }
}
