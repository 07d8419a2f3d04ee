/** What a kernel can do for BPF, as both data paths find it. */

/** sysctls by bpftool's names. */
export const SYSCTLS = [
  "unprivileged_bpf_disabled",
  "bpf_jit_enable",
  "bpf_jit_harden",
  "bpf_jit_kallsyms",
  "bpf_jit_limit",
] as const;

export type Sysctl = (typeof SYSCTLS)[number];

/** Features that are tried with a program each. */
export const MISC_FEATURES = [
  "large_insn_limit",
  "bounded_loops",
  "v2_isa_extension",
  "v3_isa_extension",
  "v4_isa_extension",
] as const;

export type MiscFeature = (typeof MISC_FEATURES)[number];

/** Whose try leaves a line in the kernel's log. */
export const NOTED_HELPERS: readonly string[] = ["trace_printk", "trace_vprintk", "probe_write_user"];

export interface Features {
  /** -1: not to be read. */
  readonly sysctls: Readonly<Record<Sysctl, number>>;
  /** The kernel's configuration as text; undefined: not to be had, and `untold` says why. */
  readonly config: string | undefined;
  readonly hasSyscall: boolean;
  /** By `enum bpf_prog_type`. */
  readonly progTypes: readonly boolean[];
  /** By `enum bpf_map_type`. */
  readonly mapTypes: readonly boolean[];
  /** Helpers' numbers by program type (`enum bpf_func_id`); undefined: a kernel that stands still cannot be asked. */
  readonly helpers: readonly (readonly number[])[] | undefined;
  /** undefined: a kernel that stands still cannot be asked. */
  readonly misc: Readonly<Record<MiscFeature, boolean>> | undefined;
  /** How many helpers the kernel has, by its own enum; undefined of the running kernel. */
  readonly helperCount: number | undefined;
  /** What could not be told, as sentences. */
  readonly untold: readonly string[];
}

/** A bpf file system that hands rights on to whoever makes a token from it (since 6.9). */
export interface TokenMount {
  readonly path: Uint8Array;
  /** Names as the kernel prints them among the mount's options ("map_create", "any", "0x80"). */
  readonly cmds: readonly string[];
  readonly maps: readonly string[];
  readonly progs: readonly string[];
  readonly attachs: readonly string[];
}

export interface FeatureAccessor {
  /**
   * Of the running kernel by trying: programs and maps are made and given up again. `full`: also helpers whose try
   * leaves a line in the kernel's log. Throws `KtstrError` where that is not permitted.
   */
  features(full: boolean): Features;
  /** In the order of mounting. Throws `KtstrError` where mounts cannot be read. */
  tokenMounts(): readonly TokenMount[];
}
