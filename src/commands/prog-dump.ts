/** `prog dump xlated` in bpftool's grammar (tools/bpf/bpftool/prog.c, do_dump). */
import { KtstrError, UsageError } from "../errors.ts";
import { NO_TARGETS, type ProgCode } from "../prog-code.ts";
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
  description: "Print a program's instructions as the verifier left them, with its source lines",
  grammar: "xlated id N | tag TAG | name NAME | pinned PATH [file FILE] [opcodes] [linum] [visual]",
  examples: [
    "ktstr prog dump xlated id 42",
    "ktstr prog dump xlated name simple_dispatch linum",
    "ktstr prog dump xlated id 42 visual | dot -Tsvg > prog.svg",
    "ktstr prog dump xlated id 42 file insns.bin",
  ],
  async start(context) {
    const words = [...context.words];
    takeForm(words);
    const selector = takeSelector(words);
    const how = takeRest(words, context.options.json);
    using source = await openSource(context.options, () => false);
    const progs = await selectProgs(source, selector);
    if (progs.length > 1 && (how.file !== undefined || how.visual))
      throw new KtstrError(`several programs match: ids ${progs.map(({ id }) => id).join(", ")}`, {
        hint: "choose one by `id N`",
      });
    const dumped = progs.map((prog) => ({ prog, code: codeOf(source, prog) }));
    if (how.file !== undefined) await writeFile(context, how.file, dumped[0]!.code.insns);
    else print(context, source, dumped, how);
    warnAll(context, source.state);
    return 0;
  },
});

export default dump;

interface Dumped {
  readonly prog: ProgInfo;
  readonly code: ProgCode;
}

interface How extends XlatedStyle {
  readonly visual: boolean;
  readonly file: string | undefined;
}

function takeForm(words: string[]): void {
  const word = words.shift();
  if (word === undefined) throw new UsageError("prog dump: of which instructions? xlated");
  if (isPrefix(word, "jited"))
    throw new UsageError("prog dump jited: ktstr does not show machine code", {
      hint: "use `bpftool prog dump jited`; `prog dump xlated` has the BPF instructions",
    });
  if (!isPrefix(word, "xlated"))
    throw new UsageError(`prog dump: ${JSON.stringify(word)} is not xlated`, {
      hint: "for example `ktstr prog dump xlated id 42`",
    });
}

function takeSelector(words: string[]): Selector {
  const selector = parseSelector(words.splice(0, 2), ["id", "tag", "name", "pinned"], "prog");
  if (selector.kind === "all") throw new UsageError("prog dump xlated: which program? id, tag, name, pinned");
  return selector;
}

/** In bpftool's order. */
const KEYWORDS = ["file", "opcodes", "visual", "linum"] as const;

function takeRest(words: readonly string[], json: boolean): How {
  const given = new Set<string>();
  let file: string | undefined;
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const keyword = KEYWORDS.find((one) => isPrefix(word, one));
    if (keyword === undefined) throw new UsageError(`prog dump: too much: ${[word, ...rest].join(" ")}`);
    if (keyword !== "file") given.add(keyword);
    else {
      file = rest.shift();
      if (file === undefined) throw new UsageError("prog dump file: which file?");
    }
  }
  if (file !== undefined && given.size > 0)
    throw new UsageError(`prog dump: file does not go with ${[...given].join(", ")}`, {
      hint: "a file gets the bytes of the instructions",
    });
  const visual = given.has("visual");
  if (visual && json) throw new UsageError("prog dump visual: a graph is no JSON", { hint: "leave out -j" });
  return { file, visual, opcodes: given.has("opcodes"), linum: given.has("linum") };
}

/** Throws `KtstrError` where the code cannot be read, or is not shown. */
function codeOf({ state }: Source, prog: ProgInfo): ProgCode {
  const read = state.progCode(prog);
  if (!read.ok) throw new KtstrError(`prog ${prog.id}: its instructions: ${read.why.detail}`);
  if (read.value.insns.length > 0) return read.value;
  throw new KtstrError(`prog ${prog.id}: the kernel does not show its instructions`, {
    hint: "it takes CAP_BPF, and of a program with blinded constants kernel.kptr_restrict below 2 and CAP_SYSLOG",
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

function print(context: Context, source: Source, dumped: readonly Dumped[], how: How): void {
  const { out, options } = context;
  const read = source.state.callTargets(dumped.map(({ code }) => code));
  if (!read.ok) context.warn(`calls have no names: ${read.why.detail}`);
  const targets = read.ok ? read.value : NO_TARGETS;
  const xlatedOf = ({ prog, code }: Dumped): Xlated => {
    const btf = prog.btfId === 0 ? undefined : source.state.btf(prog.btfId);
    if (btf?.ok === false) context.warn(`prog ${prog.id}: its BTF: ${btf.why.detail}: no lines are shown`);
    return new Xlated(code, targets, btf?.ok === true ? btf.value : undefined);
  };
  const [first] = dumped;
  if (first !== undefined && dumped.length === 1) {
    const xlated = xlatedOf(first);
    if (how.visual) xlatedGraph(out, xlated, how);
    else if (!options.json) xlatedText(out, xlated, how);
    else {
      xlatedJson(out, xlated, how, indentOf(context));
      out.line();
    }
    return;
  }
  if (options.json) printJson(context, dumped, xlatedOf, how);
  else
    for (const [place, one] of dumped.entries()) {
      out.line(progHeaderText(one.prog));
      xlatedText(out, xlatedOf(one), how);
      if (place + 1 < dumped.length) out.line();
    }
}

function printJson(
  context: Context,
  dumped: readonly Dumped[],
  xlatedOf: (one: Dumped) => Xlated,
  how: How,
): void {
  const { out } = context;
  const indent = indentOf(context);
  out.text("[");
  for (const [place, one] of dumped.entries()) {
    const header = stringify(progHeaderJson(one.prog), indent);
    // The object goes on behind its header's last member.
    out.text(`${place > 0 ? "," : ""}${header.replace(/\n?\}$/, "")},"insns":`);
    xlatedJson(out, xlatedOf(one), how, indent);
    out.text("}");
  }
  out.line("]");
}
