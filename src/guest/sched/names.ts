/** The kernel's own names of sched_ext's numbers, by the enums of its BTF. */
import type { Btf } from "../../btf/btf.ts";
import { type EnumRow, flagNames, nameIn, type ScxEnums } from "../../scx-enums.ts";
import { BTF_KIND } from "../../uapi/btf.ts";

const known: WeakMap<Btf, ScxNames> = new WeakMap();

export class ScxNames {
  /** What a report carries for its printers. */
  readonly enums: ScxEnums;
  readonly #exitKinds: readonly EnumRow[];
  readonly #opsFlags: readonly EnumRow[];

  static of(btf: Btf): ScxNames {
    const before = known.get(btf);
    if (before !== undefined) return before;
    const made = new ScxNames(btf);
    known.set(btf, made);
    return made;
  }

  private constructor(btf: Btf) {
    this.#exitKinds = values(btf, "scx_exit_kind", "");
    this.#opsFlags = flags(btf, "scx_ops_flags", "");
    this.enums = {
      taskStates: taskStates(btf),
      taskFlags: flags(btf, "scx_ent_flags", "SCX_TASK_"),
      dsqFlags: flags(btf, "scx_ent_dsq_flags", "SCX_TASK_DSQ_"),
      opsStates: values(btf, "scx_ops_state", "SCX_OPSS_"),
      rqFlags: flags(btf, "scx_rq_flags", "SCX_RQ_"),
    };
  }

  /** "SCX_EXIT_ERROR_STALL"; undefined: this kernel has no such kind. */
  exitKind(kind: number): string | undefined {
    return nameIn(this.#exitKinds, kind);
  }

  /** "SCX_OPS_SWITCH_PARTIAL", ...; what has no name is one number, "0x40". */
  opsFlags(flags: bigint): string[] {
    return flagNames(this.#opsFlags, flags);
  }
}

/** The enumerators of a type, without their prefix; none where this kernel has no such enum. */
function values(btf: Btf, type: string, prefix: string): EnumRow[] {
  const enum32 = btf.find(type, BTF_KIND.ENUM);
  const id = enum32 ?? btf.find(type, BTF_KIND.ENUM64);
  if (id === undefined) return [];
  // One enumerator of 1 << 31 makes an enum of the compiler's a signed one.
  const bits = enum32 === undefined ? 64 : 32;
  return [...btf.enumValues(id)]
    .filter(({ name }) => name.startsWith(prefix))
    .map((each) => {
      const value = BigInt.asUintN(bits, BigInt(each.value));
      return { name: each.name.slice(prefix.length), mask: value, value };
    });
}

/** What only describes a field of the flags, or several flags: its place, its width, the mask of all of them. */
const DESCRIPTION = /_(SHIFT|BITS|MASK|ALL_FLAGS)$/;

/**
 * The flags of an enum. A field of several bits has a row `<FIELD>_MASK` beside those of its numbers: a state's stand
 * apart (`taskStates()`), as the dump prints them.
 */
function flags(btf: Btf, type: string, prefix: string): EnumRow[] {
  const all = values(btf, type, prefix);
  const fields = all.filter(({ name, mask }) => name.endsWith("_MASK") && mask !== 0n && !isInternal(name));
  return all
    .filter(({ name }) => !DESCRIPTION.test(name))
    .flatMap((row) => {
      const field = fields.find(({ mask }) => row.value !== 0n && (row.value & ~mask) === 0n);
      if (field?.name === "STATE_MASK" || row.value === 0n) return [];
      return [field === undefined ? row : { ...row, mask: field.mask }];
    });
}

/** `__SCX_OPS_INTERNAL_MASK` is a range of flags and no field of a number. */
const isInternal = (name: string): boolean => name.startsWith("__");

/** `enum scx_task_state` until 7.0; since 7.1 `enum scx_ent_flags` has the states among its flags, shifted. */
function taskStates(btf: Btf): EnumRow[] {
  const old = values(btf, "scx_task_state", "SCX_TASK_").filter(({ name }) => name !== "NR_STATES");
  if (old.length > 0) return old;
  const all = values(btf, "scx_ent_flags", "SCX_TASK_");
  const shift = all.find(({ name }) => name === "STATE_SHIFT")?.value ?? 0n;
  const mask = all.find(({ name }) => name === "STATE_MASK")?.value ?? 0n;
  return all
    .filter(({ name, value }) => STATES.includes(name) && (value & ~mask) === 0n)
    .map(({ name, value }) => ({ name, mask: mask >> shift, value: value >> shift }));
}

/** By name: other fields have a number 0, too. */
const STATES = ["NONE", "INIT_BEGIN", "INIT", "READY", "ENABLED", "DEAD"];
