/** BPF file systems from which tokens can be made, as `bpftool token list` prints them (tools/bpf/bpftool/token.c). */
import type { TokenMount } from "../features.ts";
import { escapeText, printable, utf8 } from "../text.ts";
import type { Json } from "./json.ts";

export function tokenJson({ path, cmds, maps, progs, attachs }: TokenMount): Json {
  return {
    token_info: utf8(path),
    allowed_cmds: cmds,
    allowed_maps: maps,
    allowed_progs: progs,
    allowed_attachs: attachs,
  };
}

const PER_LINE = 4;
const WIDTH = 20;

export function tokenText({ path, cmds, maps, progs, attachs }: TokenMount): string {
  const list = (title: string, names: readonly string[]): string => {
    const cells = names.map(
      (name, index) => (index % PER_LINE === 0 ? "\n\t  " : "") + escapeText(name).padEnd(WIDTH),
    );
    return `\n\t${title}:${cells.join("")}`;
  };
  return [
    `token_info  ${printable(path)}`,
    list("allowed_cmds", cmds),
    list("allowed_maps", maps),
    list("allowed_progs", progs),
    list("allowed_attachs", attachs),
  ].join("");
}
