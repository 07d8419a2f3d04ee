/**
 * Definitions of all options of all commands. The parser needs to know which take a value before it knows the command, and
 * one name has one meaning in all commands.
 */
import type { ArgDef, ArgsDef } from "citty";
import { FORMAT_NAMES } from "../guest/image/formats.ts";

/** Options that only some commands take. */
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
  pretty: { type: "boolean", alias: "p", description: "print JSON with line breaks" },
  memory: {
    type: "string",
    valueHint: "FILE[@GPA]",
    description:
      "read a frozen machine's memory instead of the running kernel; may be repeated; - is standard input",
  },
  format: {
    type: "string",
    valueHint: "FORMAT",
    description: `format of the memory file, if its content does not identify it: ${FORMAT_NAMES.join(", ")}`,
  },
  vm: {
    type: "string",
    valueHint: "PID|NAME|SOCKET",
    description:
      "read a running virtual machine, by pid, name or QEMU's QMP socket; it is paused during the read",
  },
  "no-pause": { type: "boolean", description: "do not pause the machine of --vm" },
  sample: { type: "boolean", description: "read the captured machine that is part of ktstr" },
  vmlinux: { type: "string", valueHint: "FILE", description: "take symbols and types from this vmlinux" },
  vmcoreinfo: {
    type: "string",
    valueHint: "ADDRESS",
    description: "physical address of the memory's VMCOREINFO; skips the search for it",
  },
  explain: { type: "boolean", description: "print on stderr how the kernel was found in the memory" },
  debug: { type: "boolean", alias: "d", description: "print more on stderr, and stack traces of errors" },
  "base-btf": {
    type: "string",
    alias: "B",
    valueHint: "FILE",
    description: "base of the split BTF of `btf dump file`, such as a vmlinux for its modules",
  },
  nomount: {
    type: "boolean",
    alias: "n",
    description: "for bpftool's scripts; no effect: ktstr never mounts bpffs",
  },
  mapcompat: {
    type: "boolean",
    alias: "m",
    description: "for bpftool's scripts; no effect: ktstr loads no map definitions from object files",
  },
  "use-loader": {
    type: "boolean",
    alias: "L",
    description: "for bpftool's scripts; no effect: ktstr loads no programs from object files",
  },
  version: { type: "boolean", alias: "V", description: "print the version" },
  help: { type: "boolean", alias: "h", description: "print this help" },
};

const OWN: Readonly<Record<OwnOption, ArgDef>> = {
  stats: {
    type: "string",
    valueHint: "SECONDS",
    description: "enable run-time statistics for this time before the read, and disable them after it",
  },
  bpffs: { type: "boolean", alias: "f", description: "show the paths where each object is pinned" },
  all: {
    type: "boolean",
    description: "show all facts of a program: what runs it, pins, maps, costs by CPU, source lines",
  },
  attached: { type: "boolean", description: "show what runs each program, and its maps by name" },
  holders: {
    type: "boolean",
    description: "show what keeps each map alive: processes, pins, programs, links, other maps",
  },
  limit: {
    type: "string",
    valueHint: "N",
    description: "show at most N entries of each map, or at most N tasks and N queues",
  },
  key: {
    type: "string",
    valueHint: "KEY",
    description: "show only this key: a number, bytes (`hex 01 02`, `0x01 0x02`), a name, or JSON",
  },
  cpu: {
    type: "string",
    valueHint: "N|all|sum",
    description: "per-CPU values: of one CPU, all (the default), or their sum",
  },
  filter: {
    type: "string",
    valueHint: "EXPRESSION",
    description: "show only entries that match, such as 'pid == 42 && in[0].tag > 3'",
  },
  sort: { type: "string", valueHint: "[-]MEMBER", description: "sort ascending; with - descending" },
  follow: {
    type: "string",
    valueHint: "N",
    description: "follow pointers up to N steps: in arenas, and in a frozen kernel's memory",
  },
  lines: { type: "boolean", description: "show the C source line of each frame in a BPF program" },
  types: { type: "boolean", description: "show the C types of global variables" },
  plain: {
    type: "string",
    valueHint: "bpftool",
    description:
      "print text exactly as bpftool does; typed maps look like JSON with unquoted hexadecimal numbers",
  },
  output: { type: "string", alias: "o", valueHint: "FILE", description: "write to this file" },
  listen: {
    type: "string",
    valueHint: "ADDRESS:PORT",
    description: "serve at this address until Ctrl-C; a port alone is on the loopback interface",
  },
  force: { type: "boolean", description: "replace an existing file" },
  zstd: { type: "boolean", description: "compress, even if the file's name does not end in .zst" },
  maps: {
    type: "string",
    valueHint: "NAME,...",
    description: "save the contents of these maps only, by name or id",
  },
  "no-values": { type: "boolean", description: "save attributes of maps without contents" },
  level: {
    type: "string",
    valueHint: "LEVEL[+],...",
    description:
      "show only these levels: emerg, alert, crit, err, warn, notice, info, debug; with +, also more severe levels",
  },
  since: {
    type: "string",
    valueHint: "[-]SECONDS",
    description:
      "show records from this time on; with -, those of this many seconds before the newest record",
  },
  interval: {
    type: "string",
    valueHint: "SECONDS",
    description: "time between rounds; default 1",
  },
  for: { type: "string", valueHint: "SECONDS", description: "end after this time" },
  get: {
    type: "string",
    valueHint: "[MAP:]VARIABLE,...",
    description: "add these global variables, or parts of them, to each round; may be repeated",
  },
  rounds: { type: "string", valueHint: "N", description: "end after N rounds" },
  once: { type: "boolean", description: "print one reading and end" },
  batch: { type: "boolean", alias: "b", description: "print rounds as lines; needs no terminal" },
  replay: { type: "string", valueHint: "FILE", description: "show a file of `ktstr record`" },
};

/** Returns the definitions of a command's options, the global ones last. */
export function argsOf(own: readonly OwnOption[]): ArgsDef {
  return { ...Object.fromEntries(own.map((name) => [name, OWN[name]])), ...GLOBAL };
}

/** Returns "output" for "o"; a letter that is no option is returned unchanged. */
export function longName(letter: string): string {
  const all = [...Object.entries(GLOBAL), ...Object.entries(OWN)];
  return all.find(([, def]) => "alias" in def && def.alias === letter)?.[0] ?? letter;
}

/** Returns false for an option that does not exist. */
export function takesValue(name: string): boolean {
  const table: ArgsDef = Object.hasOwn(GLOBAL, name) ? GLOBAL : OWN;
  return Object.hasOwn(table, name) && table[name]?.type === "string";
}

export function isGlobal(name: string): boolean {
  return Object.hasOwn(GLOBAL, name);
}
