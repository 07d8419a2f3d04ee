/** Types that both data paths return for a kernel's BPF features. */

/** sysctls with bpftool's names. */
export const SYSCTLS = [
  "unprivileged_bpf_disabled",
  "bpf_jit_enable",
  "bpf_jit_harden",
  "bpf_jit_kallsyms",
  "bpf_jit_limit",
] as const;

export type Sysctl = (typeof SYSCTLS)[number];

/** Features that are probed by loading a program. */
export const MISC_FEATURES = [
  "large_insn_limit",
  "bounded_loops",
  "v2_isa_extension",
  "v3_isa_extension",
  "v4_isa_extension",
] as const;

export type MiscFeature = (typeof MISC_FEATURES)[number];

/** Helpers whose probe makes the kernel write a message to its log. They are probed only on request. */
export const LOGGING_HELPERS: readonly string[] = ["trace_printk", "trace_vprintk", "probe_write_user"];

export interface Features {
  /** -1 if the sysctl cannot be read. */
  readonly sysctls: Readonly<Record<Sysctl, number>>;
  /** The kernel's configuration as text. If undefined, `problems` has the reason. */
  readonly config: string | undefined;
  readonly hasSyscall: boolean;
  /** Indexed by `enum bpf_prog_type`. */
  readonly progTypes: readonly boolean[];
  /** Indexed by `enum bpf_map_type`. */
  readonly mapTypes: readonly boolean[];
  /** Helper numbers (`enum bpf_func_id`), indexed by program type; undefined for a memory image, which cannot be probed. */
  readonly helpers: readonly (readonly number[])[] | undefined;
  /** undefined for a memory image, which cannot be probed. */
  readonly misc: Readonly<Record<MiscFeature, boolean>> | undefined;
  /** Number of helpers in the kernel's own enum; undefined for the running kernel. */
  readonly helperCount: number | undefined;
  /** Sentences about data that could not be read. */
  readonly problems: readonly string[];
}

/** A bpf file system that delegates permissions to the creators of tokens (since 6.9). */
export interface TokenMount {
  readonly path: Uint8Array;
  /** Names as in the mount options ("map_create", "any", "0x80"). */
  readonly cmds: readonly string[];
  readonly maps: readonly string[];
  readonly progs: readonly string[];
  readonly attachs: readonly string[];
}

export interface FeatureAccessor {
  /**
   * Live: probes features by loading programs and creating maps, which are closed again. `full` also probes helpers whose
   * probe writes to the kernel's log. Throws `KtstrError` if probing is not permitted.
   */
  features(full: boolean): Features;
  /** In the order of mounting. Throws `KtstrError` if the mounts cannot be read. */
  tokenMounts(): readonly TokenMount[];
}
