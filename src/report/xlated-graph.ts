/**
 * Control-flow graph of a program for Graphviz, as `bpftool prog dump xlated ... visual` prints it (tools/bpf/bpftool/cfg.c).
 * As in bpftool, instructions are counted from the start of each function, but prototypes and source lines are looked up by
 * that number in the program's first function.
 */
import { escapeSource } from "../text.ts";
import { CALL, insnAt, isCall, isExit, isGoto, isJump, PSEUDO_CALL } from "../uapi/disasm.ts";
import type { Output } from "./output.ts";
import { hex, type SourceLine, type Xlated, type XlatedStyle } from "./xlated.ts";

/** Indexes of instructions in the program, `start` to `end` inclusive. */
interface Range {
  readonly start: number;
  readonly end: number;
}

interface Func extends Range {
  readonly id: number;
}

const ENTRY = 0;
const EXIT = 1;
const FIRST = 2;

export function xlatedGraph(out: Output, xlated: Xlated, style: XlatedStyle): void {
  out.text('digraph "DOT graph for eBPF program" {\n');
  for (const func of functionsOf(xlated)) {
    const head = `subgraph "cluster_${func.id}" {\n\tstyle="dashed";\n\tcolor="black";\n`;
    out.text(`${head}\tlabel="func_${func.id} ()";\n`);
    const blocks = blocksOf(xlated, func);
    const node = (id: number, shape: string): string =>
      `\tfn_${func.id}_bb_${id} [shape=${shape},style=filled,label="`;
    out.text(`${node(ENTRY, "Mdiamond")}ENTRY"];\n\n`);
    for (const [place, block] of blocks.entries()) {
      out.text(`${node(FIRST + place, "record")}{\\\n`);
      drawBlock(out, xlated, style, func, block);
      out.text('}"];\n\n');
    }
    out.text(`${node(EXIT, "Mdiamond")}EXIT"];\n\n`);
    drawEdges(out, xlated, func, blocks);
    out.text(`\tfn_${func.id}_bb_${ENTRY}:s -> fn_${func.id}_bb_${EXIT}:n`);
    out.text(' [style="invis", constraint=true];\n}\n');
  }
  out.text("}\n");
}

/** bpftool's `cfg_partition_funcs`: sorts functions by start. Ids follow the order of first calls. */
function functionsOf(xlated: Xlated): Func[] {
  const ids = new Map(xlated.count > 0 ? [[0, 0]] : []);
  for (let index = 0; index < xlated.count; index++) {
    const { code, source, offset } = insnAt(xlated.view, index);
    const start = index + offset + 1;
    if (code === CALL && source === PSEUDO_CALL && isInside(xlated, start) && !ids.has(start))
      ids.set(start, ids.size);
  }
  const starts = [...ids].sort(([a], [b]) => a - b);
  return starts.map(([start, id], place) => ({
    id,
    start,
    end: (starts[place + 1]?.[0] ?? xlated.count) - 1,
  }));
}

const isInside = (xlated: Xlated, index: number): boolean => index >= 0 && index < xlated.count;

/** `func_partition_bb_head` and `_tail`. */
function blocksOf(xlated: Xlated, { start, end }: Func): Range[] {
  const heads = new Set([start]);
  for (let index = start; index <= end; index++) {
    const { code, offset } = insnAt(xlated.view, index);
    if (!isJump(code) || isExit(code) || isCall(code)) continue;
    for (const head of isGoto(code) ? [index + offset + 1] : [index + offset + 1, index + 1])
      if (head >= start && head <= end) heads.add(head);
  }
  const sorted = [...heads].sort((a, b) => a - b);
  return sorted.map((head, place) => ({ start: head, end: (sorted[place + 1] ?? end + 1) - 1 }));
}

/** `func_add_bb_edges`, `draw_bb_succ_edges`. */
function drawEdges(out: Output, xlated: Xlated, { id }: Func, blocks: readonly Range[]): void {
  const edge = (from: number, to: number): void => {
    out.text(`\tfn_${id}_bb_${from}:s -> fn_${id}_bb_${to}:n`);
    out.text(' [style="solid,bold", color=black, weight=10, constraint=true];\n');
  };
  const byHead = new Map(blocks.map(({ start }, place) => [start, FIRST + place]));
  edge(ENTRY, FIRST);
  for (const [place, { end }] of blocks.entries()) {
    const own = FIRST + place;
    const next = place + 1 < blocks.length ? own + 1 : EXIT;
    const { code, offset } = insnAt(xlated.view, end);
    const jumps = isJump(code) && !isCall(code) && !isExit(code);
    if (!jumps || !isGoto(code)) edge(own, next);
    if (!jumps) continue;
    const target = byHead.get(end + offset + 1);
    if (target !== undefined) edge(own, target);
  }
}

/** `dump_xlated_for_graph`. */
function drawBlock(out: Output, xlated: Xlated, style: XlatedStyle, func: Func, block: Range): void {
  const { functions } = xlated;
  let nextFunction = 0;
  let last = -1;
  for (let index = block.start; index <= block.end; index++) {
    const number = index - func.start;
    const own = functions[nextFunction];
    if (own?.insn === number) {
      const prototype = xlated.prototype(own.typeId);
      if (prototype !== "") out.text(`; ${escapeSource(prototype)}:\\l\\\n`);
      nextFunction++;
    }
    const line = xlated.lineAt(number);
    if (line >= 0 && line !== last) {
      drawSource(out, xlated.source(line), style.linum);
      last = line;
    }
    out.text(`${number}: ${graphText(escapeSource(xlated.text(index)))}`);
    const isDouble = xlated.isDouble(index);
    if (style.opcodes) {
      const rest = isDouble && index < block.end ? ` ${hex(xlated.view, 8 * index + 8, 8).join(" ")}` : "";
      out.text(`\\ \\ \\ \\ ${hex(xlated.view, 8 * index, 8).join(" ")}${rest}\\l\\\n`);
    }
    if (index !== block.end) out.text("| ");
    if (isDouble) index++;
  }
}

/** bpftool's buffer for an instruction has 64 bytes. Longer text, with its line feed, is cut. */
const GRAPH_BYTES = 63;

/** `print_insn_for_graph`. */
function graphText(text: string): string {
  const escaped = text.slice(0, GRAPH_BYTES).replace(/[<>|&]/g, "\\$&");
  return text.length < GRAPH_BYTES ? `${escaped}\\l\\\n` : escaped;
}

/** tools/bpf/bpftool/btf_dumper.c, `btf_dump_linfo_dotlabel`. */
function drawSource(out: Output, { text, file, line, column }: SourceLine, linum: boolean): void {
  if (text === undefined || text === "") return;
  if (linum) {
    const short = shortPath(file ?? "");
    out.text(`; [${short === (file ?? "") ? "" : "..."}${label(short)} line:${line} col:${column}]\\l\\\n`);
  }
  out.text(`; ${label(text)}\\l\\\n`);
}

const label = (text: string): string => escapeSource(text).replace(/[\\"{}<>| ]/g, "\\$&");

const MAX_PATH = 32;

/** `shorten_path` of btf_dumper.c: the end of a long path, from a slash on. */
function shortPath(path: string): string {
  if (path.length <= MAX_PATH) return path;
  const slash = path.indexOf("/", path.length - MAX_PATH);
  if (slash >= 0) return slash < "...".length ? path : path.slice(slash);
  const base = path.lastIndexOf("/");
  return base < 0 ? path : path.slice(base);
}
