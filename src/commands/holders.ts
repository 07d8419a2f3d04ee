/** The members `pids` and `bpf_cookie` of listed objects. */
import { log } from "../log.ts";
import type { Json } from "../report/json.ts";
import type { HeldKind, Holders } from "../state.ts";
import { printable, utf8 } from "../text.ts";
import type { MapSource } from "./source.ts";

/** Fields for the processes that hold an object, by the object's id, with bpftool's keys. */
export interface Pids {
  readonly json: (id: number, cookie?: Json) => { readonly [key: string]: Json };
  readonly text: (id: number) => string;
}

/** bpftool reads `bpf_cookie` of a perf_event link together with `pids` and prints it if there are any. */
export function pidsFor({ state }: Pick<MapSource, "state">, kind: HeldKind): Pids {
  const read = state.holders();
  // Not a warning, because captures by older versions never have this data.
  if (!read.ok) log.debug(`holders of objects are not shown: ${read.why.detail}`);
  const holders: Holders[HeldKind] = read.ok ? read.value[kind] : new Map();
  return {
    json(id, cookie) {
      const list = holders.get(id);
      if (list === undefined) return {};
      return { bpf_cookie: cookie, pids: list.map(({ pid, comm }) => ({ pid, comm: utf8(comm) })) };
    },
    text(id) {
      const list = holders.get(id)?.map(({ pid, comm }) => `${printable(comm)}(${pid})`) ?? [];
      return list.length === 0 ? "" : `\n\tpids ${list.join(", ")}`;
    },
  };
}
