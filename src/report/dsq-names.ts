/** Names of dispatch queues: constants and global variables of a scheduler's programs that hold a queue's id. */
import type { Btf } from "../btf/btf.ts";
import { readInteger } from "../btf/integer.ts";
import { KtstrError } from "../errors.ts";
import { schedulerMaps } from "../scheduler.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import { isSection, variablesOf } from "./globals.ts";

/** Ids up to this one are small: any counter may hold the same value. */
const MAX_SMALL_ID = 0xffffn;
/** Limit on names per id. */
const MAX_NAMES = 3;

/**
 * Returns the ids of the maps of the attached scheduler, or of the scheduler with this struct_ops map. The map of an ejected
 * scheduler exists while its loader holds it.
 */
function mapsOf(state: BpfState, structOpsId: number | undefined): ReadonlySet<number> {
  return structOpsId === undefined
    ? new Set(state.activeScheduler()?.mapIds)
    : schedulerMaps(state, structOpsId);
}

/**
 * For each id, finds the integer variables and enumerators with that value, and joins their names by " or ". A name for a
 * small id must contain "dsq" and its value must be constant: an enumerator or a variable of `.rodata`.
 */
export function dsqNames(
  state: BpfState,
  ids: readonly bigint[],
  structOpsId?: number,
): ReadonlyMap<bigint, string> {
  const names = new Map<bigint, Set<string>>(ids.map((id) => [id, new Set()]));
  const note = (value: number | bigint, name: string, isConstant: boolean): void => {
    const id = BigInt.asUintN(64, BigInt(value));
    const known = names.get(id);
    if (known === undefined || known.size === MAX_NAMES || isKernelConstant(name)) return;
    if (id > MAX_SMALL_ID || (isConstant && /dsq/i.test(name))) known.add(name);
  };
  if (ids.length === 0) return new Map();
  const own = mapsOf(state, structOpsId);
  const sections = state.maps().filter((map) => own.has(map.id) && isSection(map));
  for (const section of sections) noteVariables(state, section, note);
  const btfs = new Map(sections.map((map) => [map.btfId, map]));
  for (const map of btfs.values()) {
    const btf = state.programBtf(map);
    if (btf.ok) noteEnumerators(btf.value, note);
  }
  return new Map([...names].flatMap(([id, all]) => (all.size === 0 ? [] : [[id, [...all].join(" or ")]])));
}

/** Matches the kernel's own constants, which scx's headers declare: `SCX_DSQ_LOCAL`, `__SCX_TASK_DSQ_ON_PRIQ`. */
const isKernelConstant = (name: string): boolean => /^_*SCX_/.test(name);

type Note = (value: number | bigint, name: string, isConstant: boolean) => void;

function noteVariables(state: BpfState, section: MapInfo, note: Note): void {
  const isConstant = printable(section.name).endsWith(".rodata");
  for (const { name, type, bytes } of variablesOf(state, section) ?? [])
    ignoreErrors(() => {
      const id = type.btf.resolve(type.id);
      const isInteger = INTEGERS.includes(type.btf.kind(id));
      const size = isInteger ? type.btf.storedSize(id) : 0;
      if (size > 0 && size <= 8 && size <= bytes.length)
        note(readInteger(bytes, 0, size, false), name, isConstant);
    });
}

const INTEGERS: readonly number[] = [BTF_KIND.INT, BTF_KIND.ENUM, BTF_KIND.ENUM64];

function noteEnumerators(btf: Btf, note: Note): void {
  for (let id = btf.firstId; id < btf.typeCount; id++)
    ignoreErrors(() => {
      const kind = btf.kind(id);
      if (kind !== BTF_KIND.ENUM && kind !== BTF_KIND.ENUM64) return;
      for (const { name, value } of btf.enumValues(id)) note(value, name, true);
    });
}

/** Ignores errors: a machine's BTF may be hostile, and the report is complete without names. */
function ignoreErrors(read: () => void): void {
  try {
    read();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
  }
}
