/** Compares the layouts in src/uapi with a kernel's BTF. Tests use it. */
import { BTF_KIND } from "../uapi/btf.ts";
import type { Layout } from "../uapi/layout.ts";
import type { Btf } from "./btf.ts";

/** Maximum nesting of anonymous structs and unions that are searched. */
const MAX_DEPTH = 4;

/**
 * Returns the differences between a layout and the struct or union with its name ("struct bpf_map_info", "union
 * bpf_attr"): one sentence per difference. `path` is the member where the layout starts if the layout is of a
 * named member of the union ("info"). If a union has several anonymous members, the one with the fewest differences counts.
 */
export function checkLayout(btf: Btf, layout: Layout, path = ""): readonly string[] {
  const [, keyword, name] = /^(struct|union) (\w+)/.exec(layout.name) ?? [];
  if (name === undefined) return [`"${layout.name}" is not the name of a struct or union`];
  const outer = btf.find(name, keyword === "struct" ? BTF_KIND.STRUCT : BTF_KIND.UNION);
  if (outer === undefined) return [`there is no ${keyword} ${name}`];
  const start = path === "" ? outer : btf.member(outer, path)?.typeId;
  if (start === undefined) return [`${keyword} ${name} has no member ${path}`];
  let best: readonly string[] | undefined;
  for (const candidate of candidates(btf, btf.resolve(start), 0)) {
    const differences = compare(btf, candidate, layout);
    if (best === undefined || differences.length < best.length) best = differences;
  }
  return best ?? [`${keyword} ${name}${path === "" ? "" : `.${path}`} is not a struct or union`];
}

/** Yields a struct and the anonymous structs and unions nested at its offset 0. */
function* candidates(btf: Btf, id: number, depth: number): Generator<number> {
  if (btf.kind(id) !== BTF_KIND.STRUCT && btf.kind(id) !== BTF_KIND.UNION) return;
  yield id;
  if (depth === MAX_DEPTH) return;
  for (const member of btf.members(id)) {
    if (member.name === "" && member.bitOffset === 0)
      yield* candidates(btf, btf.resolve(member.typeId), depth + 1);
  }
}

function compare(btf: Btf, id: number, layout: Layout): string[] {
  const differences: string[] = [];
  for (const [field, { offset, size }] of Object.entries(layout.fields)) {
    const place = btf.member(id, field);
    if (place === undefined) {
      differences.push(`${field}: there is no such member`);
      continue;
    }
    const actualSize = place.bitSize > 0 ? `${place.bitSize} bits` : `${btf.sizeOf(place.typeId)} bytes`;
    if (place.byteOffset !== offset)
      differences.push(`${field}: is at offset ${place.byteOffset}, not ${offset}`);
    if (actualSize !== `${size} bytes`) differences.push(`${field}: has ${actualSize}, not ${size}`);
  }
  const actual = btf.sizeOf(id);
  if (actual < layout.size) differences.push(`it has ${actual} bytes, fewer than ${layout.size}`);
  return differences;
}
