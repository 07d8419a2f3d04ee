/** Names of sched_ext's states, flags and exit kinds, from the enums in the kernel's BTF. */
import type { Btf } from "../../btf/btf.ts";
import { type EnumRow, flagNames, nameIn, type ScxEnums } from "../../scx-enums.ts";
import { BTF_KIND } from "../../uapi/btf.ts";

const known: WeakMap<Btf, ScxNames> = new WeakMap();

export class ScxNames {
  /** Names that a report contains for its printers. */
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

  /** "SCX_EXIT_ERROR_STALL"; undefined if this kernel has no such kind. */
  exitKind(kind: number): string | undefined {
    return nameIn(this.#exitKinds, kind);
  }

  /** "SCX_OPS_SWITCH_PARTIAL", ...; the bits without a name are one number, "0x40". */
  opsFlags(flags: bigint): string[] {
    return flagNames(this.#opsFlags, flags);
  }
}

/** Returns the enumerators of a type, without their prefix; empty if this kernel has no such enum. */
function values(btf: Btf, type: string, prefix: string): EnumRow[] {
  const enum32 = btf.find(type, BTF_KIND.ENUM);
  const id = enum32 ?? btf.find(type, BTF_KIND.ENUM64);
  if (id === undefined) return [];
  // An enumerator of 1 << 31 makes the enum signed.
  const bits = enum32 === undefined ? 64 : 32;
  return [...btf.enumValues(id)]
    .filter(({ name }) => name.startsWith(prefix))
    .map((each) => {
      const value = BigInt.asUintN(bits, BigInt(each.value));
      return { name: each.name.slice(prefix.length), mask: value, value };
    });
}

/** Enumerators that are not flags: a field's shift, width or mask, or the mask of all flags. */
const DESCRIPTION = /_(SHIFT|BITS|MASK|ALL_FLAGS)$/;

/**
 * Returns the flags of an enum. The numbers of a field of several bits have the field's `<FIELD>_MASK` as mask. The states
 * are left out (`taskStates()`), because the dump prints them separately.
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

/** `__SCX_OPS_INTERNAL_MASK` is the mask of a range of flags, not of a field. */
const isInternal = (name: string): boolean => name.startsWith("__");

/** Returns the task states: `enum scx_task_state` until 7.0; since 7.1 shifted values in `enum scx_ent_flags`. */
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

/** States are selected by name, because enumerators of other fields have the value 0 too. */
const STATES = ["NONE", "INIT_BEGIN", "INIT", "READY", "ENABLED", "DEAD"];
