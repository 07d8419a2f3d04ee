/**
 * Prints the types of a BTF object as `bpftool btf dump ... format raw` does, as text and as JSON
 * (tools/bpf/bpftool/btf.c).
 *
 * In JSON, bpftool sign-extends the 32-bit values of an unsigned ENUM to 64 bits: 4294967295 becomes
 * 18446744073709551615. The JSON here does the same. The text has the unsigned values.
 */

import { escapeText } from "../text.ts";
import {
  BTF_FUNC_LINKAGE,
  BTF_INT_BOOL,
  BTF_INT_CHAR,
  BTF_INT_SIGNED,
  BTF_KIND,
  BTF_KIND_NAMES,
  BTF_VAR_LINKAGE,
  btfIntBits,
  btfIntEncoding,
  btfIntOffset,
} from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { jsonText } from "./json.ts";

/** One type with bpftool's keys in bpftool's order: `id`, `kind`, `name`, then the fields of the kind. */
export interface RawType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly [field: string]: RawField;
}

type RawField = string | number | bigint | readonly RawElement[];
/** A member, value, parameter or variable. */
type RawElement = Readonly<Record<string, string | number | bigint>>;

/** Characters of output per yielded piece. */
const CHUNK = 65_536;

/** Yields the dump as compact JSON in pieces. Without `ids`, a split BTF yields only its own types. */
export function* rawJson(btf: Btf, ids: Iterable<number> = ownIds(btf)): Generator<string> {
  let out = '{"types":[';
  let separator = "";
  for (const id of ids) {
    out += separator + jsonText(rawType(btf, id));
    separator = ",";
    if (out.length < CHUNK) continue;
    yield out;
    out = "";
  }
  yield `${out}]}`;
}

/** Yields the dump as text: a line for each type and for each of its elements. */
export function* rawText(btf: Btf, ids: Iterable<number> = ownIds(btf)): Generator<string> {
  let out = "";
  for (const id of ids) {
    out += typeLines(btf, rawType(btf, id));
    if (out.length < CHUNK) continue;
    yield out;
    out = "";
  }
  if (out !== "") yield out;
}

/** Returns one type. Throws `FormatError` if the id or a string that it refers to does not exist. */
export function rawType(btf: Btf, id: number): RawType {
  const kind = btf.kind(id);
  const common = { id, kind: BTF_KIND_NAMES[kind] ?? "UNKNOWN", name: nameOrAnon(btf.typeName(id)) };
  const vlen = btf.vlen(id);
  switch (kind) {
    case BTF_KIND.INT: {
      const trailer = btf.trailer(id);
      return {
        ...common,
        size: btf.storedSize(id),
        bits_offset: btfIntOffset(trailer),
        nr_bits: btfIntBits(trailer),
        encoding: intEncoding(btfIntEncoding(trailer)),
      };
    }
    case BTF_KIND.ARRAY: {
      const { elementTypeId, indexTypeId, count } = btf.array(id);
      return { ...common, type_id: elementTypeId, index_type_id: indexTypeId, nr_elems: count };
    }
    case BTF_KIND.STRUCT:
    case BTF_KIND.UNION:
      return { ...common, size: btf.storedSize(id), vlen, members: rawMembers(btf, id) };
    case BTF_KIND.ENUM:
    case BTF_KIND.ENUM64: {
      const encoding = btf.kindFlag(id) ? "SIGNED" : "UNSIGNED";
      return { ...common, encoding, size: btf.storedSize(id), vlen, values: rawValues(btf, id) };
    }
    case BTF_KIND.FWD:
      return { ...common, fwd_kind: btf.kindFlag(id) ? "union" : "struct" };
    case BTF_KIND.FUNC:
      return { ...common, type_id: btf.referenced(id), linkage: BTF_FUNC_LINKAGE[vlen] ?? "(unknown)" };
    case BTF_KIND.FUNC_PROTO: {
      const params = Array.from(btf.params(id), ({ name, typeId }) => ({
        name: nameOrAnon(name),
        type_id: typeId,
      }));
      return { ...common, ret_type_id: btf.referenced(id), vlen, params };
    }
    case BTF_KIND.VAR: {
      const linkage = BTF_VAR_LINKAGE[btf.trailer(id)] ?? "(unknown)";
      return { ...common, type_id: btf.referenced(id), linkage };
    }
    case BTF_KIND.DATASEC: {
      const vars = Array.from(btf.sectionVars(id), ({ typeId, offset, size }) => ({
        type_id: typeId,
        offset,
        size,
      }));
      return { ...common, size: btf.storedSize(id), vlen, vars };
    }
    case BTF_KIND.FLOAT:
      return { ...common, size: btf.storedSize(id) };
    case BTF_KIND.DECL_TAG:
      return { ...common, type_id: btf.referenced(id), component_idx: btf.trailer(id) | 0 };
    default:
      return kind < BTF_KIND_NAMES.length ? { ...common, type_id: btf.referenced(id) } : common;
  }
}

function* ownIds(btf: Btf): Generator<number> {
  for (let id = btf.firstId; id < btf.typeCount; id++) yield id;
}

const nameOrAnon = (name: string): string => (name === "" ? "(anon)" : name);

function intEncoding(encoding: number): string {
  if (encoding === 0) return "(none)";
  if (encoding === BTF_INT_SIGNED) return "SIGNED";
  if (encoding === BTF_INT_CHAR) return "CHAR";
  return encoding === BTF_INT_BOOL ? "BOOL" : "UNKN";
}

function rawMembers(btf: Btf, id: number): RawElement[] {
  return Array.from(btf.members(id), ({ name, typeId, bitOffset, bitSize }): RawElement => {
    const member = { name: nameOrAnon(name), type_id: typeId, bits_offset: bitOffset };
    return bitSize === 0 ? member : { ...member, bitfield_size: bitSize };
  });
}

function rawValues(btf: Btf, id: number): RawElement[] {
  const extend = btf.kind(id) === BTF_KIND.ENUM && !btf.kindFlag(id);
  return Array.from(btf.enumValues(id), ({ name, value }): RawElement => {
    const negative = extend && Number(value) > 0x7fff_ffff;
    return { name: nameOrAnon(name), val: negative ? 0xffff_ffff_0000_0000n + BigInt(value) : value };
  });
}

function typeLines(btf: Btf, type: RawType): string {
  let line = `[${type.id}] ${type.kind} '${escapeText(type.name)}'`;
  let elements = "";
  for (const [field, value] of Object.entries(type)) {
    if (field === "id" || field === "kind" || field === "name") continue;
    if (typeof value === "object")
      elements = value.map((element) => elementLine(btf, type, element)).join("");
    else line += ` ${field}=${value}${type.kind === "VAR" && field === "type_id" ? "," : ""}`;
  }
  return `${line}${elements}\n`;
}

function elementLine(btf: Btf, type: RawType, element: RawElement): string {
  const fields: string[] = [];
  for (const [field, value] of Object.entries(element)) {
    if (field === "name") fields.push(`'${escapeText(String(value))}'`);
    else if (field === "val") fields.push(`val=${valueDigits(type, value)}`);
    else fields.push(`${field}=${value}`);
  }
  if (type.kind === "DATASEC") {
    const id = Number(element["type_id"]);
    if (id < btf.typeCount)
      fields.push(
        `(${BTF_KIND_NAMES[btf.kind(id)] ?? "UNKNOWN"} '${escapeText(nameOrAnon(btf.typeName(id)))}')`,
      );
  }
  return `\n\t${fields.join(" ")}`;
}

function valueDigits(type: RawType, value: string | number | bigint): string {
  if (type.kind === "ENUM64") return `${value}${type["encoding"] === "SIGNED" ? "LL" : "ULL"}`;
  return String(type["encoding"] === "SIGNED" ? value : BigInt.asUintN(32, BigInt(value)));
}
