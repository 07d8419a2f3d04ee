/** struct_ops maps as `bpftool struct_ops` prints them (tools/bpf/bpftool/struct_ops.c). */
import { bpftoolJson, bpftoolPlain, type CalleeName } from "../btf/bpftool.ts";
import type { Btf } from "../btf/btf.ts";
import { encodeValue } from "../btf/encode.ts";
import type { Jsonable } from "../btf/json.ts";
import { KtstrError } from "../errors.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { escapeText, printable, utf8 } from "../text.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import { type Json, JsonText } from "./json.ts";
import { type TypeRef, typesOf, untypedReason, withFallback } from "./typed.ts";

const VALUE_PREFIX = "bpf_struct_ops_";

/** Returns the type of the map's value: `struct bpf_struct_ops_NAME` of the kernel or of a module. Throws `KtstrError`. */
function valueType(state: BpfState, map: MapInfo): TypeRef {
  const types = typesOf(state, map);
  if (types !== undefined) return types.value;
  throw new KtstrError(
    `map ${map.id}: its type cannot be read: ${untypedReason(state, map) ?? "it has none"}`,
  );
}

/** Returns NAME of the kernel's `struct NAME` that the map implements: "tcp_congestion_ops". Throws `KtstrError`. */
function opsStruct(state: BpfState, map: MapInfo): string {
  const { btf, id } = valueType(state, map);
  const name = withFallback("", () => btf.typeName(id));
  return name.startsWith(VALUE_PREFIX) ? name.slice(VALUE_PREFIX.length) : name;
}

export function structOpsJson(state: BpfState, map: MapInfo): Json {
  return { id: map.id, name: utf8(map.name), kernel_struct_ops: opsStruct(state, map) };
}

export function structOpsText(state: BpfState, map: MapInfo): string {
  return `${map.id}: ${printable(map.name).padEnd(15)} ${escapeText(opsStruct(state, map)).padEnd(32)}`;
}

type Write = (btf: Btf, typeId: number, bytes: Uint8Array, callee?: CalleeName) => string;

/**
 * Returns the two objects that `struct_ops dump` prints for one map: its attributes, and its value with programs' names as functions.
 * `plain`: use bpftool's notation without `-j`. Throws `KtstrError`.
 */
export function structOpsDump(state: BpfState, map: MapInfo, plain: boolean): [JsonText, JsonText] {
  const write: Write = plain ? bpftoolPlain : bpftoolJson;
  const kernel = state.kernelBtf();
  if (!kernel.ok) throw new KtstrError(`the kernel's types cannot be read: ${kernel.why.detail}`);
  const infoId = kernel.value.find("bpf_map_info", BTF_KIND.STRUCT);
  if (infoId === undefined) throw new KtstrError("the kernel's types have no struct bpf_map_info");
  const info = write(kernel.value, infoId, mapInfoBytes(kernel.value, infoId, map));
  const value = state.readValue(map, 0, map.valueSize);
  if (!value.ok) throw new KtstrError(`map ${map.id}: ${value.why.detail}`);
  const { btf, id } = valueType(state, map);
  const body = withFallback("null", () => write(btf, id, value.value, programName(state)));
  const name = JSON.stringify(withFallback("", () => btf.typeName(id)));
  return [new JsonText(`{"bpf_map_info":${info}}`), new JsonText(`{${name}:${body}}`)];
}

function programName(state: BpfState): CalleeName {
  return (id) => {
    const prog = state.progById(id);
    return prog === undefined || prog.btfId === 0 ? undefined : utf8(prog.fullName);
  };
}

/** Encodes `struct bpf_map_info` (include/uapi/linux/bpf.h) with the members that the kernel's BTF has. */
function mapInfoBytes(btf: Btf, id: number, map: MapInfo): Uint8Array {
  const { device } = map;
  const members: { readonly [name: string]: Jsonable } = {
    type: map.type,
    id: map.id,
    key_size: map.keySize,
    value_size: map.valueSize,
    max_entries: map.maxEntries,
    map_flags: map.flags,
    ifindex: device?.ifindex ?? 0,
    btf_vmlinux_value_type_id: map.btfVmlinuxValueTypeId,
    netns_dev: device?.netnsDev ?? 0n,
    netns_ino: device?.netnsIno ?? 0n,
    btf_id: map.btfId,
    btf_key_type_id: map.btfKeyTypeId,
    btf_value_type_id: map.btfValueTypeId,
    btf_vmlinux_id: map.btfVmlinuxId,
    map_extra: map.mapExtra,
  };
  const there = Object.entries(members).filter(([name]) => btf.member(id, name) !== undefined);
  const bytes = encodeValue(btf, id, Object.fromEntries(there), btf.sizeOf(id));
  const name = btf.member(id, "name");
  if (name !== undefined) bytes.set(map.name.subarray(0, 16), name.byteOffset);
  return bytes;
}
