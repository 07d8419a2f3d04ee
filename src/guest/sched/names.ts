/** The kernel's own names of sched_ext's numbers, by the enums of its BTF. */
import type { Btf } from "../../btf/btf.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import { enumValues } from "../kernel/enums.ts";

const known: WeakMap<Btf, ScxNames> = new WeakMap();

export class ScxNames {
  readonly #exitKinds: ReadonlyMap<bigint, string>;
  readonly #states: ReadonlyMap<bigint, string>;
  readonly #opsFlags: ReadonlyMap<bigint, string>;
  readonly #rqFlags: ReadonlyMap<bigint, string>;

  static of(btf: Btf): ScxNames {
    const before = known.get(btf);
    if (before !== undefined) return before;
    const made = new ScxNames(btf);
    known.set(btf, made);
    return made;
  }

  private constructor(btf: Btf) {
    this.#exitKinds = namesIn(btf, "scx_exit_kind", "");
    this.#opsFlags = namesIn(btf, "scx_ops_flags", "");
    this.#rqFlags = namesIn(btf, "scx_rq_flags", "SCX_RQ_");
    this.#states = taskStates(btf);
  }

  /** "SCX_EXIT_ERROR_STALL"; undefined: this kernel has no such kind. */
  exitKind(kind: number): string | undefined {
    return this.#exitKinds.get(BigInt(kind));
  }

  /** "ENABLED", of the state's number as it stands in `p->scx.flags`, shifted down. */
  taskState(state: number): string | undefined {
    return this.#states.get(BigInt(state));
  }

  /** "SCX_OPS_SWITCH_PARTIAL", ... */
  opsFlags(flags: bigint): string[] {
    return bitsOf(this.#opsFlags, flags);
  }

  /** "ONLINE", ...; what has no name is one number, "0x40". */
  rqFlags(flags: number): string[] {
    return bitsOf(this.#rqFlags, BigInt(flags), true);
  }
}

function namesIn(btf: Btf, type: string, prefix: string): ReadonlyMap<bigint, string> {
  const id = btf.find(type, BTF_KIND.ENUM) ?? btf.find(type, BTF_KIND.ENUM64);
  const names = new Map<bigint, string>();
  if (id === undefined) return names;
  for (const { name, value } of btf.enumValues(id))
    if (name.startsWith(prefix)) names.set(BigInt(value), name.slice(prefix.length));
  return names;
}

/** `enum scx_task_state` until 7.0; since 7.1 `enum scx_ent_flags` has the states among its flags, shifted. */
function taskStates(btf: Btf): ReadonlyMap<bigint, string> {
  const old = namesIn(btf, "scx_task_state", "SCX_TASK_");
  const id = btf.find("scx_ent_flags", BTF_KIND.ENUM);
  if (old.size > 0 || id === undefined) return old;
  const values = enumValues(btf, id);
  const shift = values.get("SCX_TASK_STATE_SHIFT") ?? 0;
  const states = new Map<bigint, string>();
  for (const name of STATES) {
    const value = values.get(`SCX_TASK_${name}`);
    if (value !== undefined) states.set(BigInt(value >>> shift), name);
  }
  return states;
}

/** Flags and masks stand in the same enum. */
const STATES = ["NONE", "INIT_BEGIN", "INIT", "READY", "ENABLED", "DEAD"];

function bitsOf(names: ReadonlyMap<bigint, string>, flags: bigint, withRest = false): string[] {
  const words: string[] = [];
  let rest = flags;
  for (const [bit, name] of names) {
    if (bit <= 0n || (bit & (bit - 1n)) !== 0n || (flags & bit) === 0n) continue;
    words.push(name);
    rest &= ~bit;
  }
  if (withRest && rest !== 0n) words.push(`0x${rest.toString(16)}`);
  return words;
}
