/** The document that the zoo's loader prints. Bytes are hex, numbers of 64 bits decimal strings. */

export interface ZooAnswers {
  readonly version: 1;
  readonly kernel: {
    readonly release: string;
    readonly machine: string;
    readonly possible_cpus: number;
    readonly page_size: number;
  };
  readonly maps: readonly ZooMap[];
  readonly programs: readonly ZooProgram[];
  readonly links: readonly ZooLink[];
  /** What this kernel refused, and in whose words. */
  readonly skipped: readonly ZooSkip[];
}

/** What a value means, by member names. Rules: README.md. */
export type Expected =
  | null
  | boolean
  | number
  | string
  | readonly Expected[]
  | { readonly [member: string]: Expected };

type ZooContent =
  | "entries"
  | "percpu"
  | "records"
  | "bloom"
  | "map-ids"
  | "prog-ids"
  | "owned"
  | "arena"
  | "struct-ops"
  | "keys";

export interface ZooMap {
  readonly name: string;
  readonly id: number;
  /** `enum bpf_map_type`. */
  readonly type: number;
  readonly key_size: number;
  readonly value_size: number;
  readonly max_entries: number;
  readonly map_flags: number;
  readonly map_extra: string;
  /** 0: the map has no BTF. */
  readonly btf_id: number;
  /** The shape of `entries`. */
  readonly content: ZooContent;
  readonly static: boolean;
  /** Why it does not stand still; only where `static` is false. */
  readonly moving?: string;
  /** What a moving map is held to. */
  readonly bounds?: { readonly [name: string]: number | boolean };
  /** Arenas: where the loader has mapped it; absent where it has not. */
  readonly user_base?: string;
  /** Of the map as a whole: struct_ops. */
  readonly expect?: Expected;
  /** A full map's errno to one key more. */
  readonly overflow_errno?: number;
  readonly entries: readonly ZooEntry[];
}

/** Names are hex: a task may call itself anything. 64-bit numbers are decimal strings. */
type ZooOwner =
  | { readonly kind: "task"; readonly pid: number; readonly tgid: number; readonly comm: string }
  | { readonly kind: "cgroup"; readonly id: string; readonly path: string }
  | { readonly kind: "inode"; readonly inode: string; readonly superblock: string; readonly dev: string }
  | { readonly kind: "socket"; readonly family: number; readonly protocol: number; readonly cookie: string };

export interface ZooEntry {
  readonly key?: string;
  readonly value?: string;
  /** One for each possible CPU, from CPU 0. */
  readonly values?: readonly string[];
  readonly owner?: ZooOwner;
  readonly note?: string;
  /** Arenas: where these bytes lie. What lies between the entries of a page is zero, other pages are absent. */
  readonly page?: number;
  readonly offset?: number;
  readonly address?: string;
  readonly expect?: Expected;
}

interface ZooProgram {
  readonly name: string;
  readonly id: number;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  /** Runs so far; `exact` where only the loader runs it. */
  readonly runs: { readonly exact: string } | { readonly min: string };
  readonly map_ids: readonly number[];
}

interface ZooLink {
  readonly id: number;
  /** `enum bpf_link_type`. */
  readonly type: number;
  readonly prog_id: number;
}

interface ZooSkip {
  readonly what: "map" | "program" | "object" | "link" | "other";
  readonly name: string;
  readonly why: string;
}
