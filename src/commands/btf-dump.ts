/** `btf dump` in bpftool's grammar (tools/bpf/bpftool/btf.c, do_dump). */
import { readFileSync } from "node:fs";
import { Btf } from "../btf/btf.ts";
import { cDump } from "../btf/c.ts";
import { rawJson, rawText, rawType } from "../btf/raw.ts";
import { FormatError, KtstrError, UsageError } from "../errors.ts";
import { ElfFile } from "../guest/image/elf.ts";
import { ImageFile } from "../guest/image/file.ts";
import { stringify } from "../report/json.ts";
import { similarWords } from "../similar-words.ts";
import type { Read } from "../state.ts";
import { ELF_MAGIC } from "../uapi/elf.ts";
import { isPrefix } from "./bpftool-words.ts";
import { type Command, type Context, command } from "./command.ts";
import { selectMaps } from "./map-select.ts";
import { parseSelector, type Selector, type SelectorKind } from "./select.ts";
import { selectProgs } from "./select-object.ts";
import { openSource, refuseMemory, type Source, warnAll } from "./source.ts";

const dump: Command = command({
  name: "ktstr btf dump",
  description: "Print types as C, or as stored in BTF",
  grammar:
    "id N | vmlinux | file FILE | prog PROG | map MAP [key|value|kv|all] [format raw|c [unsorted]] [root_id N]",
  examples: [
    "ktstr btf dump vmlinux format c > vmlinux.h",
    "ktstr btf dump map name scx_simple.bss format c",
    "ktstr -j btf dump file scheduler.bpf.o",
  ],
  async start(context) {
    const words = [...context.words];
    const source = takeSource(words);
    const { format, roots } = takeRest(words, context.options.json);
    if (source.kind === "file") {
      refuseMemory(context.options, "btf dump file");
      write(context, readBtfFile(source.path, context.options.baseBtf), format, roots);
      return 0;
    }
    using opened = await openSource(context.options, () => false);
    const chosen = await chooseBtf(opened, source);
    const ids = source.kind === "map" && roots.length > 0 ? [...chosen.roots, ...roots] : chosen.roots;
    write(context, chosen.btf, format, ids.length > 0 ? ids : roots);
    warnAll(context, opened.state);
    return 0;
  },
});

export default dump;

const SOURCES = ["id", "vmlinux", "file", "prog", "map"] as const;
/** In bpftool's order, which decides abbreviations: `k` is `key`. */
const PARTS = ["key", "value", "all", "kv"] as const;

type BtfSource =
  | { readonly kind: "vmlinux" }
  | { readonly kind: "id"; readonly id: number }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "prog"; readonly selector: Selector }
  | { readonly kind: "map"; readonly selector: Selector; readonly part: (typeof PARTS)[number] };

/** Removes the words of BTF_SRC from the front. */
function takeSource(words: string[]): BtfSource {
  const word = words.shift();
  if (word === undefined) throw new UsageError(`btf dump: no source given: ${SOURCES.join(", ")}`);
  const kind = SOURCES.find((name) => isPrefix(word, name));
  switch (kind) {
    case "vmlinux":
      return { kind };
    case "id": {
      const id = words.shift();
      if (id === undefined) throw new UsageError("btf dump id: no id given");
      return { kind, id: numberOf("btf dump id", id) };
    }
    case "file": {
      const path = words.shift();
      if (path === undefined) throw new UsageError("btf dump file: no file given");
      // bpftool 7.8 accepts `file A file B` and merges them.
      if (isPrefix(words[0] ?? "", "file"))
        throw new UsageError("btf dump file: only one file can be dumped", {
          hint: "`bpftool btf dump` merges several",
        });
      return { kind, path };
    }
    case "prog":
      return { kind, selector: takeSelector(words, ["id", "tag", "name", "pinned"], "prog") };
    case "map": {
      const selector = takeSelector(words, ["id", "name", "pinned"], "map");
      const next = words[0];
      const part = next === undefined ? undefined : PARTS.find((name) => isPrefix(next, name));
      if (part !== undefined) words.shift();
      return { kind, selector, part: part ?? "kv" };
    }
    case undefined: {
      const near = similarWords(word, SOURCES);
      throw new UsageError(`btf dump: ${JSON.stringify(word)} is not one of ${SOURCES.join(", ")}`, {
        hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : "",
      });
    }
  }
}

function takeSelector(words: string[], kinds: readonly SelectorKind[], noun: string): Selector {
  const selector = parseSelector(words.splice(0, 2), kinds, noun);
  if (selector.kind === "all") throw new UsageError(`btf dump ${noun}: which ${noun}? ${kinds.join(", ")}`);
  return selector;
}

/** `c unsorted` is C in id order. */
type Format = "raw" | "c" | "c unsorted";

function takeRest(words: readonly string[], json: boolean): { format: Format; roots: number[] } {
  let language: "raw" | "c" = "raw";
  let unsorted = false;
  const roots: number[] = [];
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const keyword = ["format", "root_id", "unsorted"].find((one) => isPrefix(word, one));
    if (keyword === undefined)
      throw new UsageError(`btf dump: unexpected arguments: ${[word, ...rest].join(" ")}`);
    if (keyword === "unsorted") {
      unsorted = true;
      continue;
    }
    const value = rest.shift();
    if (value === undefined) throw new UsageError(`btf dump: ${keyword}: its value is missing`);
    if (keyword === "root_id") roots.push(numberOf("btf dump root_id", value));
    else if (value === "c" || value === "raw") language = value;
    else throw new UsageError(`btf dump: format ${JSON.stringify(value)} is neither c nor raw`);
  }
  const format = language === "c" && unsorted ? "c unsorted" : language;
  if (format !== "raw" && json)
    throw new UsageError("btf dump format c: C cannot be printed as JSON", { hint: "omit -j" });
  return { format, roots };
}

function numberOf(what: string, text: string): number {
  const value = Number(text);
  if (!/^(\d+|0x[0-9a-f]+)$/i.test(text) || value > 0xffff_ffff)
    throw new UsageError(`${what} ${JSON.stringify(text)}: not a 32-bit number`);
  return value;
}

interface Chosen {
  readonly btf: Btf;
  /** Ids of the types to print; empty for all. */
  readonly roots: readonly number[];
}

async function chooseBtf(opened: Source, source: Exclude<BtfSource, { kind: "file" }>): Promise<Chosen> {
  const { state } = opened;
  switch (source.kind) {
    case "vmlinux":
      return { btf: expectBtf(state.kernelBtf(), "the kernel's BTF"), roots: [] };
    case "id":
      return { btf: expectBtf(state.btf(source.id), "btf dump"), roots: [] };
    case "prog": {
      const prog = onlyOne(await selectProgs(opened, source.selector), "prog");
      if (prog.btfId === 0) throw new KtstrError(`prog ${prog.id}: it was loaded without BTF`);
      return { btf: expectBtf(state.btf(prog.btfId), `prog ${prog.id}`), roots: [] };
    }
    case "map": {
      const map = onlyOne(await selectMaps(opened, source.selector), "map");
      const { part } = source;
      const btf = expectBtf(state.programBtf(map), `map ${map.id}`);
      if (part === "all") return { btf, roots: [] };
      const key = part === "value" ? [] : [map.btfKeyTypeId];
      const value = part === "key" ? [] : [map.btfValueTypeId];
      return { btf, roots: [...key, ...value] };
    }
  }
}

function onlyOne<T extends { readonly id: number }>(chosen: readonly T[], noun: string): T {
  const [first] = chosen;
  if (first !== undefined && chosen.length === 1) return first;
  const ids = chosen.map(({ id }) => id).join(", ");
  throw new KtstrError(`several ${noun}s match: ids ${ids}`, { hint: `choose one by \`${noun} id N\`` });
}

function expectBtf(read: Read<Btf>, what: string): Btf {
  if (read.ok) return read.value;
  throw new KtstrError(`${what}: ${read.why.detail}`);
}

const MODULES = "/sys/kernel/btf/";

/**
 * Reads a file of raw BTF, as under /sys/kernel/btf, or the `.BTF` section of an ELF file, in either byte order. The base of
 * split BTF is the file `basePath`; if none is given, that of a module under /sys/kernel/btf is the kernel's BTF. Throws
 * `FormatError` or `KtstrError`.
 */
function readBtfFile(path: string, basePath?: string): Btf {
  const isModule = path.startsWith(MODULES) && path !== `${MODULES}vmlinux`;
  const basis = basePath ?? (isModule ? `${MODULES}vmlinux` : undefined);
  const base = basis === undefined ? undefined : readBtfFile(basis);
  const bytes = btfBytes(path);
  try {
    return Btf.parse(bytes, { base, name: path });
  } catch (error) {
    // The strings of split BTF continue those of its base, so they do not begin with the empty string.
    if (!(error instanceof FormatError && error.problem.includes("the empty string")) || base !== undefined)
      throw error;
    throw new KtstrError(error.message, {
      hint: "split BTF, such as a module's, takes --base-btf FILE",
      cause: error,
    });
  }
}

function btfBytes(path: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new KtstrError(`btf dump file ${path}: ${code === "ENOENT" ? "there is no such file" : code}`);
  }
  const isElf =
    bytes.length >= 4 && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === ELF_MAGIC;
  if (!isElf) return bytes;
  using file = new ImageFile(path);
  const elf = new ElfFile(file, path, { anyByteOrder: true });
  const section = elf.section(".BTF");
  if (section === undefined) throw new KtstrError(`btf dump file ${path}: it has no section .BTF`);
  return elf.contents(section);
}

function write(context: Context, btf: Btf, format: Format, roots: readonly number[]): void {
  const { out, options } = context;
  const ids = roots.length > 0 ? roots : undefined;
  if (!options.json) {
    const unsorted = format === "c unsorted";
    for (const piece of format === "raw" ? rawText(btf, ids) : cDump(btf, { ids, unsorted })) out.text(piece);
  } else if (!options.pretty) {
    for (const piece of rawJson(btf, ids)) out.text(piece);
    out.line();
  } else writePretty(context, btf, ids);
}

function writePretty({ out }: Context, btf: Btf, ids: readonly number[] | undefined): void {
  let separator = "";
  const writeOne = (id: number): void => {
    const lines = stringify(rawType(btf, id), "  ").replaceAll("\n", "\n    ");
    out.text(`${separator}\n    ${lines}`);
    separator = ",";
  };
  out.text('{\n  "types": [');
  if (ids !== undefined) for (const id of ids) writeOne(id);
  else for (let id = btf.firstId; id < btf.typeCount; id++) writeOne(id);
  out.line(`${separator === "" ? "" : "\n  "}]\n}`);
}
