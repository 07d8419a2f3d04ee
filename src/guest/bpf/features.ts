/** Probes the BPF features of a frozen machine's kernel, as far as its memory shows them. */
import { gunzipSync } from "node:zlib";
import { KtstrError } from "../../errors.ts";
import type { Features, Sysctl } from "../../features.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import { HELPERS } from "../../uapi/helpers.ts";
import { MAP_TYPES, PROG_TYPES } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { requireSymbol } from "../kernel/symbols.ts";
import { add, isNull, toBigInt } from "../memory/pointer.ts";

/** kernel/bpf/syscall.c, kernel/bpf/core.c: the variables of the sysctls; `bpf_jit_limit` is a long. */
const VARIABLES: readonly (readonly [Sysctl, string, 4 | 8])[] = [
  ["unprivileged_bpf_disabled", "sysctl_unprivileged_bpf_disabled", 4],
  ["bpf_jit_enable", "bpf_jit_enable", 4],
  ["bpf_jit_harden", "bpf_jit_harden", 4],
  ["bpf_jit_kallsyms", "bpf_jit_kallsyms", 4],
  ["bpf_jit_limit", "bpf_jit_limit", 8],
];

/** Throws `KtstrError` if this kernel's tables of types cannot be found. */
export function readFeatures(kernel: GuestKernel): Features {
  const problems: string[] = [];
  const attempt = <T>(what: string, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      problems.push(`${what}: ${error.message}`);
      return undefined;
    }
  };
  const sysctls = Object.fromEntries(
    VARIABLES.map(([name, symbol, size]) => [
      name,
      attempt(name, () => variable(kernel, symbol, size)) ?? -1,
    ]),
  ) as Record<Sysctl, number>;
  const config = attempt("the kernel's configuration", () => readConfig(kernel));
  problems.push("helpers of each program type, and the misc probes: only a running kernel can answer them");
  return {
    sysctls,
    config,
    hasSyscall: true,
    progTypes: typesOf(kernel, "bpf_prog_types", PROG_TYPES.length),
    mapTypes: typesOf(kernel, "bpf_map_types", MAP_TYPES.length),
    helpers: undefined,
    misc: undefined,
    helperCount: helperCount(kernel),
    problems,
  };
}

function variable({ memory, symbols }: GuestKernel, symbol: string, size: 4 | 8): number {
  const { hi, lo } = requireSymbol(symbols, symbol);
  return size === 4
    ? memory.i32(hi, lo, 0, symbol)
    : Number(BigInt.asIntN(64, memory.u64(hi, lo, 0, symbol)));
}

/**
 * Reads `bpf_prog_types` and `bpf_map_types` (kernel/bpf/syscall.c): operations by type, NULL for types that this kernel was
 * built without. An array ends with its last type, where the next symbol starts.
 */
function typesOf({ memory, symbols }: GuestKernel, symbol: string, count: number): boolean[] {
  const at = requireSymbol(symbols, symbol);
  const near = symbols.nearest(at);
  const length =
    near?.name === symbol && near.sizeBytes !== undefined ? Math.floor(near.sizeBytes / 8) : count;
  return Array.from({ length: count }, (_, type) => {
    if (type === 0 || type >= length) return false;
    return !isNull(memory.pointer(at.hi, at.lo, type * 8, `${symbol}[${type}]`));
  });
}

/** Returns `__BPF_FUNC_MAX_ID` of `enum bpf_func_id` minus 1; undefined if the kernel's BTF has no such enum. */
function helperCount({ btf }: GuestKernel): number | undefined {
  const id = btf.find("bpf_func_id", BTF_KIND.ENUM);
  if (id === undefined) return undefined;
  for (const { name, value } of btf.enumValues(id))
    if (name === "__BPF_FUNC_MAX_ID") return Math.min(Number(value) - 1, HELPERS.length - 1);
  return undefined;
}

/** Limit: a compressed configuration has about 60 KiB. */
const MAX_PACKED_BYTES = 16 * 1024 * 1024;
const MAX_CONFIG_BYTES = 64 * 1024 * 1024;

/** Reads `kernel_config_data` (kernel/configs.c): the contents of /proc/config.gz, between "IKCFG_ST" and "IKCFG_ED". */
export function readConfig({ memory, symbols }: Pick<GuestKernel, "memory" | "symbols">): string {
  const [start, end] = [symbols.address("kernel_config_data"), symbols.address("kernel_config_data_end")];
  if (start === undefined)
    throw new KtstrError("the kernel was built without CONFIG_IKCONFIG, or with CONFIG_IKCONFIG=m", {
      hint: "/boot/config-RELEASE on the machine has the configuration.",
    });
  const size =
    end === undefined ? undefined : Number(toBigInt(end.hi, end.lo) - toBigInt(start.hi, start.lo));
  const bytes = size !== undefined && size > 0 && size <= MAX_PACKED_BYTES ? size : undefined;
  const near = bytes ?? symbols.nearest(start)?.sizeBytes;
  if (near === undefined || near > MAX_PACKED_BYTES) throw new KtstrError("kernel_config_data has no end");
  const chunks: Uint8Array[] = [];
  for (let done = 0; done < near; done += 4096) {
    const at = add(start, done);
    chunks.push(memory.copy(at.hi, at.lo, 0, Math.min(4096, near - done), "kernel_config_data"));
  }
  const packed = Buffer.concat(chunks);
  // If the end has no symbol, the data includes its mark and the bytes after it.
  const mark = end === undefined ? packed.lastIndexOf("IKCFG_ED") : -1;
  try {
    return gunzipSync(packed.subarray(0, mark < 0 ? packed.length : mark), {
      maxOutputLength: MAX_CONFIG_BYTES,
    }).toString("latin1");
  } catch (error) {
    throw new KtstrError(`kernel_config_data: ${error instanceof Error ? error.message : error}`);
  }
}
