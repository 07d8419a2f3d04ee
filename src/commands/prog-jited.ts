/** `prog dump jited`: prints machine code. Only this file loads the disassembler. */
import { loadDisassembler } from "../disasm/disassembler.ts";
import { KtstrError } from "../errors.ts";
import { type Disassembler, type MachineFunction, NO_TARGETS, type ProgCode } from "../prog-code.ts";
import { type Jited, jitedJson, jitedText, linesByFunction } from "../report/jited.ts";
import { Xlated } from "../report/xlated.ts";
import type { ProgInfo } from "../state.ts";
import type { Context } from "./command.ts";
import { btfOf, type Dump, type DumpOptions } from "./prog-dump.ts";
import type { Source } from "./source.ts";

/** Throws `KtstrError` if the machine code cannot be read or disassembled, or the kernel does not show it. */
export async function jitedDumps(
  context: Context,
  source: Source,
  progs: readonly ProgInfo[],
  how: DumpOptions,
): Promise<Dump[]> {
  const { out } = context;
  const codes = progs.map((prog) => machineCodeOf(source, prog));
  // `file FILE` writes the bytes without disassembling.
  const disassembler = how.file === undefined ? await loadDisassembler(source.state.kernel().machine) : NONE;
  return progs.map((prog, place) => {
    const functions = codes[place]!;
    const jitedOf = (): Jited => {
      const code = linesOf(context, source, prog);
      const xlated = new Xlated(code, NO_TARGETS, btfOf(context, source, prog));
      if (linesByFunction(code, functions, xlated.lineCount) === undefined)
        context.warn(`prog ${prog.id}: no lines are shown: its line info does not match its machine code`);
      return {
        functions,
        names: functions.map(({ address }) => nameAt(source, address)),
        code,
        xlated,
        disassembler,
      };
    };
    return {
      prog,
      bytes: () => Buffer.concat(functions.map(({ bytes }) => bytes)),
      text: () => jitedText(out, jitedOf(), how),
      json: (indent) => jitedJson(out, jitedOf(), how, indent),
    };
  });
}

function machineCodeOf({ state }: Source, prog: ProgInfo): readonly MachineFunction[] {
  if (prog.device !== undefined)
    throw new KtstrError(
      `prog ${prog.id}: it is offloaded to a network card, and ktstr cannot read that machine code`,
    );
  const read = state.machineCode(prog);
  if (!read.ok) throw new KtstrError(`prog ${prog.id}: its machine code cannot be read: ${read.why.detail}`);
  if (read.value.length > 0) return read.value;
  throw new KtstrError(
    prog.jited
      ? `prog ${prog.id}: the kernel does not show its machine code`
      : `prog ${prog.id}: it has no machine code: it is interpreted`,
    prog.jited ? { hint: "this needs CAP_SYSLOG, and kernel.kptr_restrict below 2" } : {},
  );
}

const NONE: Disassembler = { decode: () => [] };

const NO_CODE: ProgCode = {
  insns: new Uint8Array(),
  functions: [],
  lines: new Uint32Array(),
  lineAddresses: [],
  functionAddresses: [],
  functionCount: 0,
};

/** If lines and functions cannot be read, this warns, and the machine code is printed without them. */
function linesOf(context: Context, { state }: Source, prog: ProgInfo): ProgCode {
  const read = state.progCode(prog);
  if (read.ok) return read.value;
  context.warn(`prog ${prog.id}: no lines are shown: they cannot be read: ${read.why.detail}`);
  return NO_CODE;
}

/** Returns the symbol that begins at an address, without "[bpf]", the module that kallsyms prints for programs. */
function nameAt({ state }: Source, address: bigint): string | undefined {
  const [, name, offset] =
    /^(\S+?)(\+0x[0-9a-f]+)?(?: \[\S+\])?$/.exec(state.symbolAt?.(address) ?? "") ?? [];
  return offset === undefined || offset === "+0x0" ? name : undefined;
}
