/** Names of sched_ext's numbers as plain data: a kernel's memory gives them by its own enums; of a dump's text see sched-text/enums.ts. */

/** One enumerator. A flag has `mask` equal to `value`; a number in a field of several bits has the field's mask. */
export interface EnumRow {
  readonly name: string;
  readonly mask: bigint;
  readonly value: bigint;
}

export interface ScxEnums {
  /** Of the number that the kernel's dump prints as `scx_state`: "ENABLED". */
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

/** The name of a number; undefined where no row has it. */
export function nameIn(rows: readonly EnumRow[], value: number): string | undefined {
  const wanted = BigInt(value);
  return rows.find((row) => row.value === wanted)?.name;
}

/** Names of the bits and fields that are set, in the enum's order; bits without a name are one number last, "0x40". */
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
