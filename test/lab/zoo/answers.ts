/** Types of the JSON document that the zoo's loader prints. Bytes are hex. 64-bit numbers are decimal strings. */

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
  /** Objects that this kernel refused, with the error messages. */
  readonly skipped: readonly ZooSkip[];
}

/** The expected value, by member names. README.md has the rules. */
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
  /** 0 if the map has no BTF. */
  readonly btf_id: number;
  /** The shape of `entries`. */
  readonly content: ZooContent;
  readonly static: boolean;
  /** Why the map changes; only if `static` is false. */
  readonly moving?: string;
  /** Bounds that a changing map keeps. */
  readonly bounds?: { readonly [name: string]: number | boolean };
  /** Arenas: the address where the loader mapped it; absent if it is not mapped. */
  readonly user_base?: string;
  /** The expected value of a whole map (struct_ops). */
  readonly expect?: Expected;
  /** The errno of adding a key to the full map. */
  readonly overflow_errno?: number;
  readonly entries: readonly ZooEntry[];
}

/** Names are hex, because a task's name can have any bytes. 64-bit numbers are decimal strings. */
type ZooOwner =
  | { readonly kind: "task"; readonly pid: number; readonly tgid: number; readonly comm: string }
  | { readonly kind: "cgroup"; readonly id: string; readonly path: string }
  | { readonly kind: "inode"; readonly inode: string; readonly superblock: string; readonly dev: string }
  | { readonly kind: "socket"; readonly family: number; readonly protocol: number; readonly cookie: string };

export interface ZooEntry {
  readonly key?: string;
  readonly value?: string;
  /** One value per possible CPU, from CPU 0. */
  readonly values?: readonly string[];
  readonly owner?: ZooOwner;
  readonly note?: string;
  /** Arenas: the page of these bytes. The bytes between the entries of a page are zero. Other pages are not allocated. */
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
  /** Number of runs; `exact` if only the loader runs the program. */
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
