/** Lists the kernel functions that BPF programs can call. pahole tags them in the kernel's BTF since 6.10 (`bpf_kfunc`). */
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { identifier } from "./c-names.ts";

export interface Kfunc {
  readonly name: string;
  readonly protoId: number;
  /** The function does not clobber caller-saved registers (`bpf_fastcall`). */
  readonly isFastcall: boolean;
}

/** `component_idx` (-1) of a DECL_TAG that applies to the function and not to a parameter. */
const WHOLE = 0xffff_ffff;

/**
 * Returns kfuncs sorted by name, as bpftool sorts them (tools/bpf/bpftool/btf.c, dump_btf_kfuncs), without those of a
 * base.
 */
export function kfuncs(btf: Btf): Kfunc[] {
  const tagged: number[] = [];
  const fastcalls = new Set<number>();
  for (let id = btf.firstId; id < btf.typeCount; id++) {
    if (btf.kind(id) !== BTF_KIND.DECL_TAG || btf.trailer(id) !== WHOLE) continue;
    const tag = btf.typeName(id);
    const target = btf.referenced(id);
    if (btf.kind(target) !== BTF_KIND.FUNC) continue;
    if (tag === "bpf_kfunc") tagged.push(target);
    else if (tag === "bpf_fastcall") fastcalls.add(target);
  }
  const named = new Map<string, Kfunc>();
  for (const id of tagged) {
    const name = identifier(btf.typeName(id));
    const protoId = btf.referenced(id);
    // A hostile BTF can declare one name twice with different prototypes, which is not valid C. The first one is kept.
    if (name !== "" && btf.kind(protoId) === BTF_KIND.FUNC_PROTO && !named.has(name))
      named.set(name, { name, protoId, isFastcall: fastcalls.has(id) });
  }
  return [...named.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
