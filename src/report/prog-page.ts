/** Additions of `prog show --all`: a program's costs by CPU, and its source lines by function. */
import { statsLine } from "../derive.ts";
import { NO_TARGETS } from "../prog-code.ts";
import { type BpfState, type CpuStats, found, type ProgInfo, type Read, unreadable } from "../state.ts";
import { escapeSource, escapeText } from "../text.ts";
import type { Json } from "./json.ts";
import { type SourceLine, Xlated } from "./xlated.ts";

/** A function of the program, including functions inlined into it. */
interface FunctionSource {
  /** Index of its first instruction. */
  readonly insn: number;
  /** "int handler(struct sk_buff * skb)"; "" if not known. */
  readonly prototype: string;
  /** Lines by file and number, without duplicates. */
  readonly lines: readonly SourceLine[];
}

export interface ProgPage {
  /** undefined for a running kernel, because bpf(2) returns only sums. */
  readonly cpuStats: Read<readonly CpuStats[]> | undefined;
  readonly functions: Read<readonly FunctionSource[]>;
}

export function progPage(state: BpfState, prog: ProgInfo): ProgPage {
  return { cpuStats: state.cpuStats?.(prog), functions: sourceOf(state, prog) };
}

function sourceOf(state: BpfState, prog: ProgInfo): Read<FunctionSource[]> {
  if (prog.btfId === 0) return unreadable("not-present", "the program was loaded without BTF");
  const code = state.progCode(prog);
  if (!code.ok) return code;
  const btf = state.btf(prog.btfId);
  if (!btf.ok) return btf;
  const xlated = new Xlated(code.value, NO_TARGETS, btf.value);
  const { functions, lineCount } = xlated;
  const sources: FunctionSource[] = [];
  let line = 0;
  for (const [place, { insn, typeId }] of functions.entries()) {
    const end = functions[place + 1]?.insn ?? xlated.count;
    const lines: SourceLine[] = [];
    for (; line < lineCount && xlated.lineInsn(line) < end; line++) lines.push(xlated.source(line));
    sources.push({ insn, prototype: xlated.prototype(typeId), lines: inOrder(lines) });
  }
  return found(sources);
}

function inOrder(lines: readonly SourceLine[]): SourceLine[] {
  const byPlace = new Map(lines.map((line) => [`${line.file ?? ""}\0${line.line}`, line]));
  return [...byPlace.values()].sort((a, b) => {
    const [left, right] = [a.file ?? "", b.file ?? ""];
    return left === right ? a.line - b.line : left < right ? -1 : 1;
  });
}

/** Keys added to bpftool's. */
export function progPageJson({ cpuStats, functions }: ProgPage): { readonly [key: string]: Json } {
  return {
    stats_per_cpu:
      cpuStats?.ok === true
        ? cpuStats.value.map((one) => ({
            cpu: one.cpu,
            run_cnt: one.count,
            run_time_ns: one.runTimeNs,
            recursion_misses: one.misses,
          }))
        : undefined,
    functions: functions.ok
      ? functions.value.map(({ insn, prototype, lines }) => ({
          insn,
          proto: prototype === "" ? undefined : prototype,
          lines: lines.map(({ file, line, column, text }) => ({
            file,
            line_num: line,
            line_col: column,
            src: text,
          })),
        }))
      : undefined,
  };
}

/** Lines printed below a program. CPUs on which it did not run are omitted. */
export function progPageText({ cpuStats, functions }: ProgPage): string {
  const lines: string[] = [];
  if (cpuStats?.ok === true) {
    const ran = cpuStats.value.filter(({ count, misses }) => count > 0n || misses > 0n);
    for (const one of ran) lines.push(statsLine(`cpu ${one.cpu}`, one));
  } else if (cpuStats !== undefined) lines.push(`costs by CPU: ${cpuStats.why.detail}`);
  if (!functions.ok) lines.push(`source: ${functions.why.detail}`);
  else
    for (const { insn, prototype, lines: own } of functions.value) {
      lines.push(`source of ${prototype === "" ? `the function at ${insn}` : escapeSource(prototype)}`);
      let file: string | undefined;
      for (const one of own) {
        if (one.file !== file) lines.push(`  ${escapeText(one.file ?? "?")}`);
        file = one.file;
        lines.push(`  ${String(one.line).padStart(6)}  ${escapeSource(one.text ?? "")}`.trimEnd());
      }
    }
  return lines.map((line) => `\n\t${line}`).join("");
}
