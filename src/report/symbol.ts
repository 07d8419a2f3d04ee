/** Resolves kernel addresses: the symbol, and the source line in a program's machine code. */
import type { ProgCode } from "../prog-code.ts";
import type { BpfState, ProgInfo } from "../state.ts";
import { escapeText } from "../text.ts";
import type { Json } from "./json.ts";
import type { SourceLine } from "./xlated.ts";

export interface NamedPlace {
  readonly address: bigint;
  /** "schedule+0x10", "dummy_xmit [dummy]"; undefined: there is no symbol at the address. */
  readonly symbol: string | undefined;
  /** Program whose machine code contains the address. */
  readonly prog: ProgInfo | undefined;
  readonly source: SourceLine | undefined;
}

/** Matches `name+0x10 [module]`. */
const SYMBOL = /^(\S+?)(?:\+0x([0-9a-f]+))?(?: \[(\S+)\])?$/;

/** Matches a return address in a stack: `bpf_prog_0123456789abcdef_enqueue+0x1a/0x60 [bpf]`. */
const FRAME = /^(bpf_prog_[0-9a-f]{16}\S*?)\+0x([0-9a-f]{1,8})(?:\/0x[0-9a-f]+)?(?: |$)/;

/** Source lines of frames in programs' machine code, by the frame's text. */
export type FrameLines = ReadonlyMap<string, SourceLine>;

/** Start of a program's function. */
interface ProgFunction {
  readonly prog: ProgInfo;
  readonly start: bigint;
}

/** Resolves addresses one by one. A program is read at the first address in it. */
export class PlaceNames {
  readonly #state: BpfState;
  readonly #codes = new Map<number, ProgCode | undefined>();
  #functions: ReadonlyMap<string, ProgFunction> | undefined;

  constructor(state: BpfState) {
    this.#state = state;
  }

  at(address: bigint): NamedPlace {
    const symbol = this.#state.symbolAt?.(address);
    const [, , offset = "0", module] = SYMBOL.exec(symbol ?? "") ?? [];
    if (module !== "bpf") return { address, symbol, prog: undefined, source: undefined };
    const start = address - BigInt(`0x${offset}`);
    const prog = this.#state.progs().find((one) => this.#codeOf(one)?.functionAddresses.includes(start));
    return { address, symbol, prog, source: prog && this.#lineOf(prog, start, address) };
  }

  /** Resolves frames of stacks. Looks up the byte before each return address, because the return address may begin the next line. */
  linesOfFrames(frames: Iterable<string>): FrameLines {
    const lines = new Map<string, SourceLine>();
    for (const frame of frames) {
      const [, name, offset = "0"] = FRAME.exec(frame) ?? [];
      if (name === undefined || lines.has(frame)) continue;
      this.#functions ??= this.#functionsByName();
      const found = this.#functions.get(name);
      const source = found && this.#lineOf(found.prog, found.start, found.start + BigInt(`0x${offset}`) - 1n);
      if (source !== undefined) lines.set(frame, source);
    }
    return lines;
  }

  /** If several functions have the same name, takes the first: equal tags mean equal code. */
  #functionsByName(): Map<string, ProgFunction> {
    const functions = new Map<string, ProgFunction>();
    for (const prog of this.#state.progs())
      for (const start of this.#codeOf(prog)?.functionAddresses ?? []) {
        const [, name, offset, module] = SYMBOL.exec(this.#state.symbolAt?.(start) ?? "") ?? [];
        if (name !== undefined && offset === undefined && module === "bpf" && !functions.has(name))
          functions.set(name, { prog, start });
      }
    return functions;
  }

  #codeOf(prog: ProgInfo): ProgCode | undefined {
    if (!this.#codes.has(prog.id)) {
      const read = this.#state.progCode(prog);
      this.#codes.set(prog.id, read.ok ? read.value : undefined);
    }
    return this.#codes.get(prog.id);
  }

  /** Returns the last line at or before `address` in the function at `start`. */
  #lineOf(prog: ProgInfo, start: bigint, address: bigint): SourceLine | undefined {
    const code = this.#codeOf(prog);
    const btf = prog.btfId === 0 ? undefined : this.#state.btf(prog.btfId);
    if (code === undefined || btf?.ok !== true) return undefined;
    let best = -1;
    let bestAt = start;
    code.lineAddresses.forEach((at, line) => {
      if (at < bestAt || at > address) return;
      best = line;
      bestAt = at;
    });
    if (best < 0) return undefined;
    const { NO_TARGETS } = require("../prog-code.ts") as typeof import("../prog-code.ts");
    const { Xlated } = require("./xlated.ts") as typeof import("./xlated.ts");
    return new Xlated(code, NO_TARGETS, btf.value).source(best);
  }
}

export function placeJson({ address, symbol, prog, source }: NamedPlace): Json {
  return {
    address: `0x${address.toString(16)}`,
    symbol: symbol ?? null,
    prog_id: prog?.id,
    ...lineJson(source),
  };
}

/** Members with the keys of bpftool's dumps; empty if the line is not known. */
export function lineJson(source: SourceLine | undefined): { readonly [key: string]: Json } {
  if (source === undefined) return {};
  return { file: source.file, line_num: source.line, line_col: source.column, src: source.text };
}

/** Formats a line: `sched.bpf.c:12: p->scx.slice = 0;` */
export function lineText({ file, line, text }: SourceLine): string {
  return `${escapeText(file ?? "?")}:${line}: ${escapeText(text ?? "")}`;
}

export function placeText({ address, symbol, prog, source }: NamedPlace): string {
  const name = symbol === undefined ? "no symbol at this address" : escapeText(symbol);
  let text = `0x${address.toString(16)}  ${name}`;
  if (prog !== undefined) text += `  prog ${prog.id}`;
  if (source !== undefined) text += `\n\t${lineText(source)}`;
  return text;
}
