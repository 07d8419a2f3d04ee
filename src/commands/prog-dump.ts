/** `prog dump` in bpftool's grammar (tools/bpf/bpftool/prog.c, do_dump). */
import type { Btf } from "../btf/btf.ts";
import { KtstrError, UsageError } from "../errors.ts";
import { type CallTargets, NO_TARGETS, type ProgCode } from "../prog-code.ts";
import { progHeaderJson } from "../report/bpftool.ts";
import { stringify } from "../report/json.ts";
import { progHeaderText } from "../report/text.ts";
import { Xlated, type XlatedStyle, xlatedJson, xlatedText } from "../report/xlated.ts";
import { xlatedGraph } from "../report/xlated-graph.ts";
import type { ProgInfo } from "../state.ts";
import { isPrefix } from "./bpftool-words.ts";
import { type Command, type Context, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { parseSelector, type Selector } from "./select.ts";
import { selectProgs } from "./select-object.ts";
import { openSource, type Source, warnAll } from "./source.ts";

const dump: Command = command({
  name: "ktstr prog dump",
  description: "Print a program's instructions after verification, or its machine code, with source lines",
  grammar: "xlated|jited id N | tag TAG | name NAME | pinned PATH [file FILE] [opcodes] [linum] [visual]",
  examples: [
    "ktstr prog dump xlated id 42",
    "ktstr prog dump xlated name simple_dispatch linum",
    "ktstr prog dump xlated id 42 visual | dot -Tsvg > prog.svg",
    "ktstr prog dump xlated id 42 file insns.bin",
    "ktstr prog dump jited id 42 opcodes",
  ],
  async start(context) {
    const words = [...context.words];
    const form = takeForm(words);
    const selector = takeSelector(words, form);
    const how = takeRest(words, form, context.options.json);
    using source = await openSource(context.options, () => false);
    const progs = await selectProgs(source, selector);
    if (progs.length > 1 && (how.file !== undefined || how.visual))
      throw new KtstrError(`several programs match: ids ${progs.map(({ id }) => id).join(", ")}`, {
        hint: "choose one by `id N`",
      });
    const dumped =
      form === "xlated"
        ? xlatedDumps(context, source, progs, how)
        : await (await import("./prog-jited.ts")).jitedDumps(context, source, progs, how);
    if (how.file !== undefined) await writeFile(context, how.file, dumped[0]!.bytes());
    else print(context, dumped);
    warnAll(context, source.state);
    return 0;
  },
});

export default dump;

/** A program's code and its printers. */
export interface Dump {
  readonly prog: ProgInfo;
  /** Returns the bytes for `file FILE`. */
  bytes(): Uint8Array;
  text(): void;
  json(indent: string): void;
}

export interface DumpOptions extends XlatedStyle {
  readonly visual: boolean;
  readonly file: string | undefined;
}

type Form = "xlated" | "jited";

function takeForm(words: string[]): Form {
  const word = words.shift();
  if (word === undefined) throw new UsageError("prog dump: give xlated or jited");
  // In bpftool's order.
  const form = (["jited", "xlated"] as const).find((one) => isPrefix(word, one));
  if (form !== undefined) return form;
  throw new UsageError(`prog dump: ${JSON.stringify(word)} is neither xlated nor jited`, {
    hint: "for example `ktstr prog dump xlated id 42`",
  });
}

function takeSelector(words: string[], form: Form): Selector {
  const selector = parseSelector(words.splice(0, 2), ["id", "tag", "name", "pinned"], "prog");
  if (selector.kind === "all")
    throw new UsageError(`prog dump ${form}: which program? id, tag, name, pinned`);
  return selector;
}

/** In bpftool's order. */
const KEYWORDS = ["file", "opcodes", "visual", "linum"] as const;

function takeRest(words: readonly string[], form: Form, json: boolean): DumpOptions {
  const given = new Set<string>();
  let file: string | undefined;
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const keyword = KEYWORDS.find((one) => isPrefix(word, one));
    if (keyword === undefined)
      throw new UsageError(`prog dump: unexpected arguments: ${[word, ...rest].join(" ")}`);
    if (keyword !== "file") given.add(keyword);
    else {
      file = rest.shift();
      if (file === undefined) throw new UsageError("prog dump file: no file given");
    }
  }
  if (file !== undefined && given.size > 0)
    throw new UsageError(`prog dump: file cannot be combined with ${[...given].join(", ")}`, {
      hint: "the file contains the bytes of the instructions",
    });
  const visual = given.has("visual");
  if (visual && form === "jited")
    throw new UsageError("prog dump jited visual: machine code has no graph", {
      hint: "`prog dump xlated ... visual` draws the program's blocks",
    });
  if (visual && json)
    throw new UsageError("prog dump visual: a graph cannot be printed as JSON", { hint: "omit -j" });
  return { file, visual, opcodes: given.has("opcodes"), linum: given.has("linum") };
}

/** Throws `KtstrError` if the code cannot be read or the kernel does not show it. */
export function codeOf({ state }: Source, prog: ProgInfo): ProgCode {
  const read = state.progCode(prog);
  if (!read.ok) throw new KtstrError(`prog ${prog.id}: its instructions cannot be read: ${read.why.detail}`);
  if (read.value.insns.length > 0) return read.value;
  throw new KtstrError(`prog ${prog.id}: the kernel does not show its instructions`, {
    hint: "this needs CAP_BPF; a program with blinded constants also needs kernel.kptr_restrict below 2 and CAP_SYSLOG",
  });
}

async function writeFile({ out, options }: Context, path: string, bytes: Uint8Array): Promise<void> {
  const { writeFileSync } = await import("node:fs");
  try {
    writeFileSync(path, bytes, { mode: 0o600 });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new KtstrError(`prog dump file ${path}: ${code}`);
  }
  if (options.json) out.line("null");
}

function xlatedDumps(context: Context, source: Source, progs: readonly ProgInfo[], how: DumpOptions): Dump[] {
  const { out } = context;
  const codes = progs.map((prog) => codeOf(source, prog));
  let targets: CallTargets | undefined;
  const xlatedOf = (place: number): Xlated => {
    if (targets === undefined) {
      const read = source.state.callTargets(codes);
      if (!read.ok) context.warn(`calls have no names: ${read.why.detail}`);
      targets = read.ok ? read.value : NO_TARGETS;
    }
    return new Xlated(codes[place]!, targets, btfOf(context, source, progs[place]!));
  };
  return progs.map((prog, place) => ({
    prog,
    bytes: () => codes[place]!.insns,
    text: () => (how.visual ? xlatedGraph : xlatedText)(out, xlatedOf(place), how),
    json: (indent) => xlatedJson(out, xlatedOf(place), how, indent),
  }));
}

/** Returns undefined if the program has no BTF. If the BTF cannot be read, also warns. */
export function btfOf(context: Context, { state }: Source, prog: ProgInfo): Btf | undefined {
  const btf = prog.btfId === 0 ? undefined : state.btf(prog.btfId);
  if (btf?.ok === false)
    context.warn(`prog ${prog.id}: no lines are shown: its BTF cannot be read: ${btf.why.detail}`);
  return btf?.ok === true ? btf.value : undefined;
}

function print(context: Context, dumped: readonly Dump[]): void {
  const { out, options } = context;
  const [first] = dumped;
  if (options.json) {
    if (first === undefined || dumped.length > 1) printJson(context, dumped);
    else first.json(indentOf(context));
    out.line();
    return;
  }
  for (const [place, one] of dumped.entries()) {
    if (dumped.length > 1) out.line(progHeaderText(one.prog));
    one.text();
    if (place + 1 < dumped.length) out.line();
  }
}

function printJson(context: Context, dumped: readonly Dump[]): void {
  const { out } = context;
  const indent = indentOf(context);
  out.text("[");
  for (const [place, one] of dumped.entries()) {
    const header = stringify(progHeaderJson(one.prog), indent);
    // The instructions are added after the last member of the header.
    out.text(`${place > 0 ? "," : ""}${header.replace(/\n?\}$/, "")},"insns":`);
    one.json(indent);
    out.text("}");
  }
  out.text("]");
}
