/** Names of sched_ext's enums. A memory image has the kernel's own enums; for text dumps see sched-text/enums.ts. */

/** One enumerator. For a flag, `mask` equals `value`. For a value of a field of several bits, `mask` is the field's mask. */
export interface EnumRow {
  readonly name: string;
  readonly mask: bigint;
  readonly value: bigint;
}

export interface ScxEnums {
  /** Names of the number that the kernel's dump prints as `scx_state`: "ENABLED". */
  readonly taskStates: readonly EnumRow[];
  /** `enum scx_ent_flags`, without the state: "QUEUED". */
  readonly taskFlags: readonly EnumRow[];
  /** `enum scx_ent_dsq_flags`: "ON_PRIQ". */
  readonly dsqFlags: readonly EnumRow[];
  /** `enum scx_ops_state`: "QUEUED". */
  readonly opsStates: readonly EnumRow[];
  /** `enum scx_rq_flags`: "ONLINE". */
  readonly rqFlags: readonly EnumRow[];
}

/** Returns the name of a number, or undefined. */
export function nameIn(rows: readonly EnumRow[], value: number): string | undefined {
  const wanted = BigInt(value);
  return rows.find((row) => row.value === wanted)?.name;
}

/** Returns the names of the set bits and fields in the enum's order. Bits without a name follow as one number, "0x40". */
export function flagNames(rows: readonly EnumRow[], flags: number | bigint): string[] {
  const all = BigInt(flags);
  const words: string[] = [];
  let rest = all;
  for (const { name, mask, value } of rows) {
    if (value === 0n || (all & mask) !== value) continue;
    words.push(name);
    rest &= ~mask;
  }
  if (rest !== 0n) words.push(`0x${rest.toString(16)}`);
  return words;
}
