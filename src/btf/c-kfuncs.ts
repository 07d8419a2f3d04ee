/** The kernel functions that BPF programs may call. pahole tags them in a kernel's BTF since 6.10 (`bpf_kfunc`). */
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { identifier } from "./c-names.ts";

export interface Kfunc {
  readonly name: string;
  readonly protoId: number;
  /** The function keeps caller-saved registers (`bpf_fastcall`). */
  readonly isFastcall: boolean;
}

/** `component_idx` of a DECL_TAG that is the whole function's and not one parameter's: -1. */
const WHOLE = 0xffff_ffff;

/** By name, as bpftool sorts them (tools/bpf/bpftool/btf.c, dump_btf_kfuncs). Of a split BTF its own. */
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
    // A name of a hostile BTF that says two things of one function would not compile.
    if (name !== "" && btf.kind(protoId) === BTF_KIND.FUNC_PROTO && !named.has(name))
      named.set(name, { name, protoId, isFastcall: fastcalls.has(id) });
  }
  return [...named.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}
