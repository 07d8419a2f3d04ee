/** Compares `prog dump jited` of bpftool with binutils' disassembler and of ktstr. */
import { expect } from "bun:test";

interface JitedInsn {
  readonly pc: string;
  readonly operation: string;
  readonly operands: readonly (string | null)[];
  readonly opcodes: readonly string[];
  readonly src?: string;
  readonly line_num?: number;
}

export interface JitedFunction {
  readonly name: string;
  readonly insns: readonly JitedInsn[];
}

export interface JitedCounts {
  insns: number;
  lines: number;
  /** Instructions whose names differ. */
  otherOperations: number;
  /** Instructions whose operands differ as text without blanks. */
  otherOperands: number;
  /** Examples of both, for the log. */
  readonly examples: string[];
}

export const noCounts = (): JitedCounts => ({
  insns: 0,
  lines: 0,
  otherOperations: 0,
  otherOperands: 0,
  examples: [],
});

const operandsOf = ({ operands }: JitedInsn): string => operands.join("").replaceAll(/[\s,]|<.*/g, "");

/**
 * Requires everything except names and operands of instructions to be equal, with keys in the same order: functions, starts
 * and ends of instructions, their bytes, lines. bpftool's operands are pieces of text.
 */
export function expectSameJited(mine: string, theirs: string, counts: JitedCounts): void {
  const shape = (json: string): string[] =>
    (JSON.parse(json) as JitedFunction[]).map(({ insns, ...rest }) =>
      JSON.stringify({
        ...rest,
        insns: insns.map((insn) => ({ ...insn, operation: "", operands: null })),
      }).replaceAll('"pc"', '\n"pc"'),
    );
  expect(shape(mine)).toEqual(shape(theirs));
  const all = (json: string): JitedInsn[] =>
    (JSON.parse(json) as JitedFunction[]).flatMap(({ insns }) => insns);
  const others = all(theirs);
  for (const [place, own] of all(mine).entries()) {
    const other = others[place]!;
    counts.insns++;
    if (own.src !== undefined) counts.lines++;
    const isOther = own.operation !== other.operation;
    if (isOther) counts.otherOperations++;
    if (operandsOf(own) !== operandsOf(other)) counts.otherOperands++;
    else if (!isOther) continue;
    if (counts.examples.length < 12)
      counts.examples.push(
        `${own.operation} ${own.operands.join(",")} | ${other.operation} ${other.operands.join("")}`,
      );
  }
}
