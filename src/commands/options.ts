/**
 * Every option of every command, once: the parser must know which take a value before it knows the command, and one
 * name means one thing everywhere.
 */
import type { ArgDef, ArgsDef } from "citty";
import { FORMAT_NAMES } from "../guest/image/formats.ts";

/** Options that a command takes by naming them. */
export type OwnOption =
  | "stats"
  | "bpffs"
  | "holders"
  | "attached"
  | "all"
  | "limit"
  | "lines"
  | "key"
  | "cpu"
  | "filter"
  | "sort"
  | "follow"
  | "types"
  | "plain"
  | "output"
  | "listen"
  | "force"
  | "zstd"
  | "maps"
  | "no-values"
  | "level"
  | "since"
  | "interval"
  | "for"
  | "get"
  | "rounds"
  | "once"
  | "batch"
  | "replay";

const GLOBAL: ArgsDef = {
  json: { type: "boolean", alias: "j", description: "print JSON (bpftool's keys, and more)" },
  pretty: { type: "boolean", alias: "p", description: "print JSON in many lines" },
  memory: {
    type: "string",
    valueHint: "FILE[@GPA]",
    description: "read a frozen machine's memory instead of the running kernel; may be repeated",
  },
  format: {
    type: "string",
    valueHint: "FORMAT",
    description: `the memory file's format, where its content does not tell: ${FORMAT_NAMES.join(", ")}`,
  },
  vm: {
    type: "string",
    valueHint: "PID|NAME|SOCKET",
    description:
      "read a running virtual machine, by its process, its name or QEMU's QMP socket; it stands still meanwhile",
  },
  "no-pause": { type: "boolean", description: "let the machine of --vm run while it is read" },
  sample: { type: "boolean", description: "read the captured machine that comes with ktstr" },
  vmlinux: { type: "string", valueHint: "FILE", description: "take symbols and types from this vmlinux" },
  vmcoreinfo: {
    type: "string",
    valueHint: "ADDRESS",
    description: "physical address of the memory's VMCOREINFO, which is then not searched",
  },
  explain: { type: "boolean", description: "say on stderr how the kernel was found in the memory" },
  debug: { type: "boolean", alias: "d", description: "say more on stderr, and show stack traces" },
  "base-btf": {
    type: "string",
    alias: "B",
    valueHint: "FILE",
    description: "what the split BTF of `btf dump file` continues, such as a vmlinux for its modules",
  },
  nomount: {
    type: "boolean",
    alias: "n",
    description: "bpftool's; changes nothing: ktstr never mounts bpffs",
  },
  mapcompat: {
    type: "boolean",
    alias: "m",
    description: "bpftool's; changes nothing: ktstr loads no map definitions from object files",
  },
  "use-loader": {
    type: "boolean",
    alias: "L",
    description: "bpftool's; changes nothing: ktstr loads no programs from object files",
  },
  version: { type: "boolean", alias: "V", description: "print the version" },
  help: { type: "boolean", alias: "h", description: "print this" },
};

const OWN: Readonly<Record<OwnOption, ArgDef>> = {
  stats: {
    type: "string",
    valueHint: "SECONDS",
    description: "switch run-time statistics on for so long before reading, and off again after",
  },
  bpffs: { type: "boolean", alias: "f", description: "show the paths where each is pinned" },
  all: {
    type: "boolean",
    description: "show all there is of a program: what runs it, pins, maps, costs by CPU, source lines",
  },
  attached: { type: "boolean", description: "show what runs each program, and its maps by name" },
  holders: {
    type: "boolean",
    description: "show what keeps each map alive: processes, pins, programs, links, other maps",
  },
  limit: { type: "string", valueHint: "N", description: "show at most so many entries of each map" },
  key: {
    type: "string",
    valueHint: "KEY",
    description: "only this key: a number, bytes (`hex 01 02`, `0x01 0x02`), a name, or JSON",
  },
  cpu: {
    type: "string",
    valueHint: "N|all|sum",
    description: "per-CPU values: one CPU's, all (the default), or their sum",
  },
  filter: {
    type: "string",
    valueHint: "EXPRESSION",
    description: "only entries for which it holds, such as 'pid == 42 && in[0].tag > 3'",
  },
  sort: { type: "string", valueHint: "[-]MEMBER", description: "smallest first; with - the largest first" },
  follow: {
    type: "string",
    valueHint: "N",
    description: "show what pointers lead to, up to N steps away: in arenas, and in a frozen kernel's memory",
  },
  lines: { type: "boolean", description: "show the C source line of each frame that lies in a BPF program" },
  types: { type: "boolean", description: "show the C types of global variables" },
  plain: {
    type: "string",
    valueHint: "bpftool",
    description:
      "text exactly as bpftool prints it: of typed maps like JSON, but for hexadecimal numbers without quotes",
  },
  output: { type: "string", alias: "o", valueHint: "FILE", description: "write into this file" },
  listen: {
    type: "string",
    valueHint: "ADDRESS:PORT",
    description: "serve there, until Ctrl-C; a port alone is of this machine's loopback interface",
  },
  force: { type: "boolean", description: "replace the file if it is there" },
  zstd: { type: "boolean", description: "compress, also without .zst in the file's name" },
  maps: { type: "string", valueHint: "NAME,...", description: "only these maps' contents, by name or id" },
  "no-values": { type: "boolean", description: "no map's contents, only attributes" },
  level: {
    type: "string",
    valueHint: "LEVEL[+],...",
    description:
      "only these levels: emerg, alert, crit, err, warn, notice, info, debug; with + and the more severe",
  },
  since: {
    type: "string",
    valueHint: "[-]SECONDS",
    description: "only from this time of the log on; with - so long before its newest record",
  },
  interval: {
    type: "string",
    valueHint: "SECONDS",
    description: "from one round to the next; 1 unless told",
  },
  for: { type: "string", valueHint: "SECONDS", description: "end after so long" },
  get: {
    type: "string",
    valueHint: "[MAP:]VARIABLE,...",
    description: "with each round these global variables, or parts of them; may be repeated",
  },
  rounds: { type: "string", valueHint: "N", description: "end after so many rounds" },
  once: { type: "boolean", description: "read once, and print it" },
  batch: { type: "boolean", alias: "b", description: "rounds as lines, also where there is no terminal" },
  replay: { type: "string", valueHint: "FILE", description: "show what `ktstr record` wrote" },
};

/** The options that a command takes, the global ones last. */
export function argsOf(own: readonly OwnOption[]): ArgsDef {
  return { ...Object.fromEntries(own.map((name) => [name, OWN[name]])), ...GLOBAL };
}

/** "output" for "o"; a letter that is no option's stays itself. */
export function longName(letter: string): string {
  const all = [...Object.entries(GLOBAL), ...Object.entries(OWN)];
  return all.find(([, def]) => "alias" in def && def.alias === letter)?.[0] ?? letter;
}

/** False for an option that does not exist. */
export function takesValue(name: string): boolean {
  const table: ArgsDef = Object.hasOwn(GLOBAL, name) ? GLOBAL : OWN;
  return Object.hasOwn(table, name) && table[name]?.type === "string";
}

export function isGlobal(name: string): boolean {
  return Object.hasOwn(GLOBAL, name);
}
