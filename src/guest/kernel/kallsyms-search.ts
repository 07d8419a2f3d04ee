/** Searches the kernel's image for kallsyms if VMCOREINFO does not have its address (kernels before 6.0). */
import { FormatError, KtstrError } from "../../errors.ts";
import type { PhysicalMemory } from "../image/physical.ts";
import { GuestFault } from "../memory/fault.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { Kallsyms, type KallsymsPlaces } from "./kallsyms.ts";
import { type KallsymsTables, tablesBetween } from "./kallsyms-shape.ts";

/** Limit on the search from `_stext`: the images of distributions have 30 to 60 MiB with all their data. */
const MAX_IMAGE_BYTES = 128 * 2 ** 20;

/** Returns the addresses of tables by name. `virtualOf` converts the physical addresses at which they were found. */
export function placesOf(
  tables: KallsymsTables,
  virtualOf: (physical: number) => bigint,
  start: bigint | undefined,
): KallsymsPlaces {
  const places = new Map<string, bigint>([
    ["kallsyms_num_syms", virtualOf(tables.countAt)],
    ["kallsyms_names", virtualOf(tables.names)],
    ["kallsyms_token_table", virtualOf(tables.tokens)],
    ["kallsyms_token_index", virtualOf(tables.tokenIndex)],
    ["kallsyms_offsets", virtualOf(tables.offsets)],
  ]);
  if (tables.base !== undefined) places.set("kallsyms_relative_base", virtualOf(tables.base));
  if (start !== undefined) places.set("_stext", start);
  return { symbol: (name) => places.get(name) };
}

/**
 * `start` is `_stext`, `imageOffset` the difference between the image's virtual and physical addresses. Throws `KtstrError` if
 * no table in the image has `_stext` at its address.
 */
export function searchKallsyms(
  memory: GuestMemory,
  physical: PhysicalMemory,
  start: bigint,
  imageOffset: bigint,
): Kallsyms {
  const from = Number(start - imageOffset);
  const problems: string[] = [];
  for (const tables of tablesBetween(physical, from, from + MAX_IMAGE_BYTES)) {
    const virtualOf = (at: number): bigint => imageOffset + BigInt(at);
    try {
      return new Kallsyms(memory, placesOf(tables, virtualOf, start));
    } catch (error) {
      if (!(error instanceof FormatError || error instanceof GuestFault)) throw error;
      problems.push(`the one at physical 0x${tables.names.toString(16)}: ${error.message}`);
    }
  }
  const why =
    problems.length === 0
      ? "VMCOREINFO does not have their address, and none was found in the kernel's image"
      : `none of ${problems.length} tables matches this kernel: ${problems.slice(0, 3).join("; ")}`;
  throw new KtstrError(`find the kernel's symbols (kallsyms): ${why}`, {
    hint: "Give --vmlinux. Pages may be missing from the dump, or the kernel was built without CONFIG_KALLSYMS.",
  });
}
