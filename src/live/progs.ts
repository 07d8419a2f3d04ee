/** Reads the attributes of programs of the running kernel (`struct bpf_prog_info`). */
import type { Btf } from "../btf/btf.ts";
import { KtstrError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import { found, type ProgInfo } from "../state.ts";
import { PROG_INFO } from "../uapi/bpf.ts";
import { cutAtNul } from "../uapi/layout.ts";
import { Attr } from "./attr.ts";
import { fdInfoNumber } from "./fdinfo.ts";
import { forEachObject, objectInfo, PROGS, pinned } from "./objects.ts";
import { offloadDevice } from "./offload.ts";
import type { Sys } from "./sys.ts";

type Field = keyof typeof PROG_INFO.fields;

/** Size limit; `MAX_USED_MAPS` is 64. */
const MAX_MAP_IDS = 4096;

export function readProgInfo(sys: Sys, fd: Fd, object: string, btfOf: (id: number) => Btf): ProgInfo {
  const first = objectInfo(sys, fd, PROG_INFO, object);
  const at = (name: Field): number => PROG_INFO.fields[name].offset;
  const u32 = (name: Field): number => first.getUint32(at(name), true);
  const u64 = (name: Field): bigint => first.getBigUint64(at(name), true);
  const inline = (name: "tag" | "name"): Uint8Array =>
    new Uint8Array(first.buffer, first.byteOffset + at(name), PROG_INFO.fields[name].size);
  const name = cutAtNul(inline("name"));
  return {
    id: u32("id"),
    type: u32("type"),
    name,
    fullName: fullName(sys, fd, object, first, name, btfOf),
    tag: inline("tag"),
    gplCompatible: (first.getUint8(at("gpl_compatible")) & 1) === 1,
    loadTimeNs: u64("load_time"),
    createdByUid: u32("created_by_uid"),
    device: offloadDevice(sys, first, PROG_INFO.fields),
    mapIds: readMapIds(sys, fd, object, Math.min(u32("nr_map_ids"), MAX_MAP_IDS)),
    btfId: u32("btf_id"),
    attachBtfObjId: u32("attach_btf_obj_id"),
    attachBtfId: u32("attach_btf_id"),
    translatedBytes: u32("xlated_prog_len"),
    jitedBytes: u32("jited_prog_len"),
    jited: u32("jited_prog_len") > 0,
    memlockBytes: fdInfoNumber(sys.readFdInfo(fd.number), "memlock"),
    verifiedInsns: u32("verified_insns") === 0 ? undefined : u32("verified_insns"),
    stats: found({ count: u64("run_cnt"), runTimeNs: u64("run_time_ns"), misses: u64("recursion_misses") }),
    address: undefined,
  };
}

function readMapIds(sys: Sys, fd: Fd, object: string, count: number): number[] {
  if (count === 0) return [];
  const ids = pinned(count * 4);
  const attr = new Attr(PROG_INFO, { nr_map_ids: count }).point("map_ids", ids);
  objectInfo(sys, fd, PROG_INFO, object, attr.bytes);
  const got = Math.min(attr.get("nr_map_ids"), count);
  return [...new Uint32Array(ids.buffer, 0, got)];
}

/** `struct bpf_func_info`: insn_off u32, type_id u32. */
const FUNC_INFO_BYTES = 8;
const CUT_NAME_BYTES = 15;

/**
 * Returns the untruncated name. The kernel keeps 15 bytes; the BTF name of the program's first function is complete. It is
 * read only if the name may be truncated, because it needs two more calls and the program's BTF.
 */
function fullName(
  sys: Sys,
  fd: Fd,
  object: string,
  info: DataView,
  name: Uint8Array,
  btfOf: (id: number) => Btf,
): Uint8Array {
  const u32 = (field: Field): number => info.getUint32(PROG_INFO.fields[field].offset, true);
  if (name.length < CUT_NAME_BYTES || u32("btf_id") === 0 || u32("nr_func_info") === 0) return name;
  const record = pinned(FUNC_INFO_BYTES);
  const attr = new Attr(PROG_INFO, { nr_func_info: 1, func_info_rec_size: FUNC_INFO_BYTES }).point(
    "func_info",
    record,
  );
  try {
    objectInfo(sys, fd, PROG_INFO, object, attr.bytes);
    const typeId = new DataView(record.buffer).getUint32(4, true);
    const whole = Buffer.from(btfOf(u32("btf_id")).typeName(typeId));
    return startsWith(whole, name) ? whole : name;
  } catch (error) {
    // The BTF was freed or lacks the function: return the truncated name.
    if (error instanceof KtstrError) return name;
    throw error;
  }
}

function startsWith(whole: Uint8Array, start: Uint8Array): boolean {
  return whole.length >= start.length && start.every((byte, index) => whole[index] === byte);
}

export function collectProgs(
  sys: Sys,
  btfOf: (id: number) => Btf,
  warn: (sentence: string) => void,
): ProgInfo[] {
  const progs: ProgInfo[] = [];
  forEachObject(sys, PROGS, warn, (id, fd) => {
    using owned = fd;
    progs.push(readProgInfo(sys, owned, `program ${id}`, btfOf));
  });
  return progs;
}
