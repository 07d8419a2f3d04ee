/** Lists the programs attached to a frozen machine's cgroups: `struct cgroup_bpf` of every cgroup of cgroup2. */
import type { CgroupProg, CgroupProgs, CgroupQuery } from "../../attachments.ts";
import type { Btf } from "../../btf/btf.ts";
import { at, place, ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import { similarWords } from "../../similar-words.ts";
import { printable } from "../../text.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import { ATTACH_TYPES, CGROUP_ATTACH_TYPES } from "../../uapi/names.ts";
import { enumValues } from "../kernel/enums.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listOf } from "../kernel/list.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { requireSymbol } from "../kernel/symbols.ts";
import { add, isNull, type Pointer, toBigInt } from "../memory/pointer.ts";
import { kernfsPath } from "./maps/storage-owner.ts";
import { progArrayIds } from "./prog-array.ts";
import { progId } from "./progs.ts";

const CGROUP_ROOT = struct("cgroup_root", { cgrp: place });
const CGROUP = struct("cgroup", {
  self: place,
  sibling: at(place, "self.sibling"),
  children: at(place, "self.children"),
  flags: at(u32, "self.flags"),
  kn: ptr,
  effective: at(place, "bpf.effective"),
  progs: at(place, "bpf.progs"),
  nextProgs: at(place, "bpf.progs[1]"),
  attachFlags: at(place, "bpf.flags"),
  nextAttachFlags: at(place, "bpf.flags[1]"),
});
const PROG_LIST = struct("bpf_prog_list", { node: place, prog: ptr, link: ptr, next: at(ptr, "node.next") });
const CGROUP_LINK = struct("bpf_cgroup_link", { prog: at(ptr, "link.prog") });

/** include/linux/cgroup-defs.h: cleared when the cgroup's directory is removed. */
const CSS_ONLINE = 1 << 1;
/** Limit; BPF_CGROUP_MAX_PROGS is 64. */
const MAX_PROGS = 4096;
/** The same limit as for the running kernel. */
const MAX_CGROUPS = 65_536;

/** Indexes in the arrays of `struct cgroup_bpf` (`enum cgroup_bpf_attach_type`) by `enum bpf_attach_type`. */
type Slots = ReadonlyMap<number, readonly number[]>;

/** Lists cgroups with their programs. Throws `KtstrError` if this kernel has no cgroups, or not the requested one. */
export function listCgroups(
  kernel: GuestKernel,
  { path, isTree, isEffective }: CgroupQuery,
  warn: (sentence: string) => void,
): CgroupProgs[] {
  const slots = slotsOf(kernel);
  const wanted = path?.replace(/(.)\/+$/, "$1");
  const all: string[] = [];
  const cgroups: CgroupProgs[] = [];
  for (const cgroup of walk(kernel, warn)) {
    const name = printable(cgroup.path);
    all.push(name);
    const level = wanted === undefined ? cgroup.level : below(name, wanted);
    if (level === undefined || (!isTree && level > 0)) continue;
    const progs = CGROUP_ATTACH_TYPES.flatMap((type) =>
      (slots.get(type) ?? []).flatMap((slot) => {
        const ids = isEffective ? effective(kernel, cgroup.at, slot) : attached(kernel, cgroup.at, slot);
        return ids.map((id): CgroupProg => ({ attachType: type, ...id }));
      }),
    );
    if (progs.length > 0 || !isTree) cgroups.push({ path: cgroup.path, level, progs });
  }
  if (wanted !== undefined && !all.some((name) => below(name, wanted) === 0)) {
    const near = similarWords(wanted, all);
    throw new KtstrError(`there is no cgroup ${JSON.stringify(wanted)} (${all.length} seen)`, {
      hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : "`ktstr cgroup tree` lists them",
    });
  }
  return cgroups;
}

/**
 * Returns the number of levels from `root` to `path`; undefined if `path` is not below `root`. `root` can start with the mount
 * point of cgroup2.
 */
function below(path: string, root: string): number | undefined {
  for (const prefix of ["", "/sys/fs/cgroup"]) {
    if (!root.startsWith(prefix)) continue;
    const from = root.slice(prefix.length) || "/";
    if (path === from) return 0;
    const start = from === "/" ? "/" : `${from}/`;
    if (path.startsWith(start)) return path.slice(start.length).split("/").length;
  }
  return undefined;
}

function slotsOf({ btf }: GuestKernel): Slots {
  const id = btf.find("cgroup_bpf_attach_type", BTF_KIND.ENUM);
  if (id === undefined) {
    // Before 5.15 the index is the attach type itself.
    const struct = btf.find("cgroup_bpf", BTF_KIND.STRUCT);
    if (struct !== undefined && btf.sizeOf(struct) > 0)
      return new Map(
        CGROUP_ATTACH_TYPES.filter((type) => type < attachTypeCount(btf)).map((type) => [type, [type]]),
      );
    throw new KtstrError("this kernel has no programs on cgroups", {
      hint: "It was built without CONFIG_CGROUP_BPF.",
    });
  }
  const values = enumValues(btf, id);
  const slots = new Map<number, number[]>();
  for (const [name, value] of values) {
    const type = (ATTACH_TYPES as readonly string[]).indexOf(name.toLowerCase());
    if (type >= 0) slots.set(type, [value]);
  }
  const [first, last] = [values.get("CGROUP_LSM_START"), values.get("CGROUP_LSM_END")];
  if (first !== undefined && last !== undefined && last - first < 256)
    slots.set(
      ATTACH_TYPES.indexOf("lsm_cgroup"),
      Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index),
    );
  return slots;
}

/** `MAX_BPF_ATTACH_TYPE` of this kernel. */
function attachTypeCount(btf: Btf): number {
  const id = btf.find("bpf_attach_type", BTF_KIND.ENUM);
  return id === undefined ? 0 : (enumValues(btf, id).get("__MAX_BPF_ATTACH_TYPE") ?? 0);
}

interface CgroupAt {
  readonly at: StructAt;
  readonly path: Uint8Array;
  readonly level: number;
}

/** Yields every cgroup that has a directory, parents before children, and siblings in order of creation. */
function* walk(kernel: GuestKernel, warn: (sentence: string) => void): Generator<CgroupAt> {
  const { btf, memory } = kernel;
  const offsets = CGROUP.resolve(btf);
  const root = add(requireSymbol(kernel.symbols, "cgrp_dfl_root"), CGROUP_ROOT.resolve(btf).cgrp);
  const pending = [{ at: root, level: 0 }];
  const seen = new Set<bigint>();
  while (pending.length > 0) {
    const { at, level } = pending.pop()!;
    if (seen.has(toBigInt(at.hi, at.lo))) continue;
    if (seen.size === MAX_CGROUPS) {
      warn(`cgroups: stopped after ${MAX_CGROUPS}`);
      return;
    }
    seen.add(toBigInt(at.hi, at.lo));
    const cgroup = new StructAt(memory, at, "cgroup.");
    try {
      if ((cgroup.u32(offsets.flags, "self.flags") & CSS_ONLINE) === 0) continue;
      const path = kernfsPath(kernel, cgroup.pointer(offsets.kn, "kn"));
      yield { at: cgroup, path, level };
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      warn(`a cgroup is left out: ${error.message}`);
      continue;
    }
    const children = [
      ...listOf(kernel, add(at, offsets.children), offsets.sibling, "cgroup.self.children", (error) =>
        warn(`cgroups are left out: ${error instanceof Error ? error.message : error}`),
      ),
    ];
    for (const child of children.reverse()) pending.push({ at: child, level: level + 1 });
  }
}

type Attached = Omit<CgroupProg, "attachType">;

/** Reads `cgroup_bpf.progs[slot]`: programs and links, like `__cgroup_bpf_query` (kernel/bpf/cgroup.c). */
function attached(kernel: GuestKernel, cgroup: StructAt, slot: number): Attached[] {
  const offsets = CGROUP.resolve(kernel.btf);
  const list = PROG_LIST.resolve(kernel.btf);
  const progs: Attached[] = [];
  // Since 6.0 flags are bytes, and the list is a hlist_head, which ends with NULL. Before, they were u32 and a list_head.
  const flagsBytes = offsets.nextAttachFlags - offsets.attachFlags;
  const flags = cgroup.u8(offsets.attachFlags + slot * flagsBytes, "bpf.flags");
  const first = offsets.progs + slot * (offsets.nextProgs - offsets.progs);
  const head = add(cgroup.at, first);
  let node = cgroup.pointer(first, "bpf.progs");
  for (let count = 0; !isNull(node) && !isSame(node, head) && count < MAX_PROGS; count++) {
    const entry = new StructAt(kernel.memory, add(node, -list.node), "bpf_prog_list.");
    const link = entry.pointer(list.link, "link");
    const prog = isNull(link)
      ? entry.pointer(list.prog, "prog")
      : entry.follow(list.link, "link").pointer(CGROUP_LINK.resolve(kernel.btf).prog, "link.prog");
    if (!isNull(prog)) progs.push({ progId: progId(kernel, prog, "bpf_prog_list.prog"), flags });
    node = entry.pointer(list.next, "node.next");
  }
  return progs;
}

const isSame = (a: Pointer, b: Pointer): boolean => a.hi === b.hi && a.lo === b.lo;

/** Reads `cgroup_bpf.effective[slot]`: an array that ends with NULL. */
function effective(kernel: GuestKernel, cgroup: StructAt, slot: number): Attached[] {
  const array = cgroup.follow(CGROUP.resolve(kernel.btf).effective + slot * 8, "bpf.effective");
  return progArrayIds(kernel, array).map((id) => ({ progId: id, flags: undefined }));
}
