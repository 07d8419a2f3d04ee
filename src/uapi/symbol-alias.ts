/**
 * Returns the symbol that bpftool prints if several symbols have the same address: the one that its binary search finds
 * (tools/bpf/bpftool/xlated_dumper.c, `kernel_syms_search`). The search compares only the low 32 bits of addresses.
 *
 * `names` are the symbols at `address` in the order of /proc/kallsyms. `all` yields the low 32 bits of every symbol's
 * address.
 */
export function pickAlias(names: readonly string[], address: bigint, all: () => Iterable<number>): string {
  const key = Number(BigInt.asIntN(32, address));
  let before = 0;
  let count = 0;
  for (const low of all()) {
    count++;
    if (((low - key) | 0) < 0) before++;
  }
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (middle < before) low = middle + 1;
    else if (middle >= before + names.length) high = middle;
    else return names[middle - before]!;
  }
  return names[0]!;
}
