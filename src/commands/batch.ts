/** `batch file FILE` in bpftool's grammar (tools/bpf/bpftool/main.c, do_batch). */
import { KtstrError, UsageError } from "../errors.ts";
import { stringify } from "../report/json.ts";
import { ClosedPipeError } from "../report/output.ts";
import { BatchFileError, batchLines } from "./batch-lines.ts";
import { isPrefix } from "./bpftool-words.ts";
import { type Command, type Context, command, type ExitStatus, type Options } from "./command.ts";
import { errorJson, sentenceOf } from "./failure.ts";
import { type CommandLine, parseCommandLine } from "./parse.ts";
import { runLine } from "./run.ts";
import { keepMemoryOpen } from "./source.ts";

const batch: Command = command({
  name: "ktstr batch",
  description: "Run the commands of a file, one per line, until one fails",
  grammar: "file FILE|-",
  examples: [
    "ktstr batch file commands.txt",
    'printf \'map show\\nprog show\\n\' | ktstr -j batch file -   # [{"command":[...],"output":...}]',
    "ktstr --memory mem batch file commands.txt   # the memory is opened once",
  ],
  async start(context) {
    const [word, path, ...rest] = context.words;
    if (word === undefined || !isPrefix(word, "file") || path === undefined)
      throw new UsageError("batch: no file given: file FILE, or file - for standard input");
    if (rest.length > 0) throw new UsageError(`batch file ${path}: unexpected arguments: ${rest.join(" ")}`);
    if (depth >= MAX_DEPTH) throw new KtstrError(`batch file ${path}: batches are nested ${depth} deep`);
    depth++;
    using _kept = keepMemoryOpen();
    try {
      return await (context.options.json ? runAllJson(context, path) : runAll(context, path));
    } finally {
      depth--;
    }
  },
});

export default batch;

/** Limit on nested batches, for a file that runs itself. */
const MAX_DEPTH = 16;
let depth = 0;

async function runAll(context: Context, path: string): Promise<ExitStatus> {
  const { out } = context;
  let count = 0;
  for (const { number, words } of batchLines(path)) {
    try {
      const status = await runLine(context.root, await lineOf(context, words), out, context.warn);
      if (status !== 0) return status;
    } catch (error) {
      throw withPlace(error, `batch file ${path}, line ${number}`);
    }
    out.flush();
    count++;
  }
  out.line(`processed ${count} commands`);
  return 0;
}

/** Prints a JSON document that is complete even after a failure: as in bpftool, an error takes the place of the output. */
async function runAllJson(context: Context, path: string): Promise<ExitStatus> {
  const { out, options } = context;
  const [gap, inner] = options.pretty ? ["\n", "\n  "] : ["", ""];
  const colon = options.pretty ? ": " : ":";
  const lines = batchLines(path);
  let count = 0;
  const element = (): string => `${count++ > 0 ? "," : ""}${gap}`;
  out.text("[");
  let status: ExitStatus = 0;
  try {
    for (const { words } of lines) {
      const command = stringify([...words]);
      out.text(`${element()}{${inner}"command"${colon}${command},${inner}"output"${colon}`);
      status = await printOutput(context, words);
      out.text(`${gap}}`).flush();
      if (status !== 0) break;
    }
  } catch (error) {
    if (!(error instanceof BatchFileError)) throw error;
    out.text(`${element()}${errorJson(sentenceOf(error), options.pretty)}`);
    status = 1;
  }
  out.line(`${gap}]`);
  return status;
}

/** Prints the JSON of one command, or `null` if it prints none. */
async function printOutput(context: Context, words: readonly string[]): Promise<ExitStatus> {
  const { out, options } = context;
  const start = out.position;
  try {
    const line = await lineOf(context, words);
    if (NO_JSON.includes(line.command.name) && !line.help)
      throw new UsageError(`${line.command.name}: this command prints no JSON`, {
        hint: "run the batch without -j",
      });
    const status = await runLine(context.root, line, out, context.warn);
    if (line.help) out.rewind(start);
    if (out.position === start) out.text("null");
    else out.chomp();
    return status;
  } catch (error) {
    if (error instanceof ClosedPipeError || !(error instanceof KtstrError) || !out.rewind(start)) throw error;
    out.text(errorJson(sentenceOf(error), options.pretty));
    return error instanceof UsageError ? 2 : 1;
  }
}

const NO_JSON: readonly string[] = ["ktstr completions", "ktstr pin"];

/** Parses a line. The batch's options apply unless the line has the same options. */
async function lineOf(context: Context, words: readonly string[]): Promise<CommandLine> {
  const line = await parseCommandLine(context.root, words);
  return { ...line, options: inherited(line.options, context.options) };
}

function inherited(own: Options, outer: Options): Options {
  const isOther = own.memory.length > 0;
  return {
    json: own.json || outer.json,
    pretty: own.pretty || outer.pretty,
    debug: own.debug || outer.debug,
    memory: isOther ? own.memory : outer.memory,
    noPause: isOther ? own.noPause : outer.noPause,
    vmlinux: isOther ? own.vmlinux : (own.vmlinux ?? outer.vmlinux),
    vmcoreinfo: isOther ? own.vmcoreinfo : (own.vmcoreinfo ?? outer.vmcoreinfo),
    format: isOther ? own.format : (own.format ?? outer.format),
    explain: own.explain || outer.explain,
    baseBtf: own.baseBtf ?? outer.baseBtf,
    own: own.own,
  };
}

/** Returns the error with the place in the file added. */
function withPlace(error: unknown, place: string): unknown {
  if (error instanceof ClosedPipeError || !(error instanceof KtstrError)) return error;
  const { hint } = error;
  const Kind = error instanceof UsageError ? UsageError : KtstrError;
  return new Kind(`${place}: ${error.message}`, { hint, cause: error });
}
