/** Programs of cgroups as `bpftool cgroup` prints them (tools/bpf/bpftool/cgroup.c). */
import type { CgroupProg, CgroupProgs } from "../attachments.ts";
import type { BpfState, ProgInfo } from "../state.ts";
import { escapeText, printable, utf8 } from "../text.ts";
import { ATTACH_TYPES, nameOr } from "../uapi/names.ts";
import type { Json } from "./json.ts";
import { withFallback } from "./typed.ts";

const BPF_F_ALLOW_OVERRIDE = 1;
const BPF_F_ALLOW_MULTI = 2;

/** Formats attach flags: "multi", "override"; "" for none: the program was attached exclusively. */
function flagsText(flags: number): string {
  if (flags === BPF_F_ALLOW_MULTI) return "multi";
  if (flags === BPF_F_ALLOW_OVERRIDE) return "override";
  return flags === 0 ? "" : `unknown(${flags.toString(16)})`;
}

/** Returns the name of the kernel function that an lsm_cgroup program hooks; undefined for other programs. */
function hookOf(state: BpfState, prog: ProgInfo): string | undefined {
  if (prog.attachBtfId === 0) return undefined;
  const object = state.btfs().find(({ id }) => id === prog.attachBtfObjId);
  if (object === undefined || utf8(object.name) !== "vmlinux") return undefined;
  const btf = state.kernelBtf();
  return btf.ok ? withFallback(undefined, () => btf.value.typeName(prog.attachBtfId)) : undefined;
}

/** Prints only the id of a program that was unloaded since the listing. */
export function cgroupProgJson(state: BpfState, { attachType, progId, flags }: CgroupProg): Json {
  const prog = state.progById(progId);
  return {
    id: progId,
    attach_type: nameOr(ATTACH_TYPES, attachType),
    attach_flags: flags === undefined ? undefined : flagsText(flags),
    name: prog === undefined ? undefined : utf8(prog.fullName),
    attach_btf_name: prog === undefined ? undefined : hookOf(state, prog),
    attach_btf_obj_id: prog?.attachBtfObjId,
    attach_btf_id: prog?.attachBtfId,
  };
}

export function cgroupJson(state: BpfState, { path, progs }: CgroupProgs): Json {
  return { cgroup: utf8(path), programs: progs.map((prog) => cgroupProgJson(state, prog)) };
}

/** Returns the column titles. `isTree`: after a line with the title of paths. */
export function cgroupHeading(isTree: boolean, isEffective: boolean): string {
  const columns = isEffective
    ? ["AttachType".padEnd(15), "Name".padEnd(15)]
    : ["AttachType".padEnd(15), "AttachFlags".padEnd(15), "Name".padEnd(15)];
  return `${isTree ? "CgroupPath\n" : ""}${"ID".padEnd(8)} ${columns.join(" ")}`;
}

/** Formats one program's line, indented below the root of a tree. */
export function cgroupProgText(
  state: BpfState,
  { attachType, progId, flags }: CgroupProg,
  level: number,
): string {
  const prog = state.progById(progId);
  const type = ATTACH_TYPES[attachType] ?? `type ${String(attachType).padEnd(10)}`;
  let text = `${level > 0 ? "    " : ""}${String(progId).padEnd(8)} ${type.padEnd(15)} `;
  if (flags !== undefined) text += `${flagsText(flags).padEnd(15)} `;
  text += (prog === undefined ? "<gone>" : printable(prog.fullName)).padEnd(15);
  const hook = prog === undefined ? undefined : hookOf(state, prog);
  if (hook !== undefined) text += ` ${escapeText(hook).padEnd(15)}`;
  else if (prog !== undefined && prog.attachBtfId !== 0)
    text += ` attach_btf_obj_id=${prog.attachBtfObjId} attach_btf_id=${prog.attachBtfId}`;
  return text;
}
