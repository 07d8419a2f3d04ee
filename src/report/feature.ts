/** BPF features of a kernel as `bpftool feature probe` prints them (tools/bpf/bpftool/feature.c). */
import { type Features, LOGGING_HELPERS, MISC_FEATURES, SYSCTLS, type Sysctl } from "../features.ts";
import { escapeText } from "../text.ts";
import { HELPERS } from "../uapi/helpers.ts";
import { MAP_TYPES, PROG_TYPES } from "../uapi/names.ts";
import type { Json } from "./json.ts";

/** Kernel options that bpftool prints. Only the last also appears among the macros. */
const OPTIONS: readonly string[] = (
  "BPF BPF_SYSCALL HAVE_EBPF_JIT BPF_JIT BPF_JIT_ALWAYS_ON DEBUG_INFO_BTF DEBUG_INFO_BTF_MODULES CGROUPS CGROUP_BPF " +
  "CGROUP_NET_CLASSID SOCK_CGROUP_DATA BPF_EVENTS KPROBE_EVENTS UPROBE_EVENTS TRACING FTRACE_SYSCALLS " +
  "FUNCTION_ERROR_INJECTION BPF_KPROBE_OVERRIDE NET XDP_SOCKETS LWTUNNEL_BPF NET_ACT_BPF NET_CLS_BPF NET_CLS_ACT " +
  "NET_SCH_INGRESS XFRM IP_ROUTE_CLASSID IPV6_SEG6_BPF BPF_LIRC_MODE2 BPF_STREAM_PARSER NETFILTER_XT_MATCH_BPF TEST_BPF HZ"
)
  .split(" ")
  .map((name) => `CONFIG_${name}`);
const MACRO_OPTIONS: readonly string[] = ["CONFIG_HZ"];

/** Parses a kernel configuration. Returns the values of the options that are set. */
function valuesOf(config: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const line of config.split("\n")) {
    const [, name, value] = /^(CONFIG_\w+)=(.*)$/.exec(line) ?? [];
    if (name !== undefined && !values.has(name)) values.set(name, value!);
  }
  return values;
}

/** Returns types with bpftool's names, without the unspecified type 0. */
function named(
  names: readonly string[],
  has: readonly boolean[],
): { name: string; has: boolean; type: number }[] {
  return names.map((name, type) => ({ name, has: has[type] === true, type })).slice(1);
}

/** Omits `helpers` and `misc` if the kernel was not probed; `kernel_helpers` then has the names of all of its helpers. */
export function featuresJson(features: Features): Json {
  const { sysctls, config, progTypes, mapTypes, helpers, misc, helperCount } = features;
  const values = config === undefined ? undefined : valuesOf(config);
  const head: Json = {
    system_config: {
      ...sysctls,
      ...Object.fromEntries(
        values === undefined ? [] : OPTIONS.map((name) => [name, values.get(name) ?? null]),
      ),
    },
    syscall_config: { have_bpf_syscall: features.hasSyscall },
  };
  if (!features.hasSyscall) return head;
  return {
    ...head,
    program_types: Object.fromEntries(
      named(PROG_TYPES, progTypes).map(({ name, has }) => [`have_${name}_prog_type`, has]),
    ),
    map_types: Object.fromEntries(
      named(MAP_TYPES, mapTypes).map(({ name, has }) => [`have_${name}_map_type`, has]),
    ),
    helpers:
      helpers &&
      Object.fromEntries(
        named(PROG_TYPES, progTypes).map(({ name, type }) => [
          `${name}_available_helpers`,
          (helpers[type] ?? []).map((id) => `bpf_${HELPERS[id]}`),
        ]),
      ),
    misc: misc && Object.fromEntries(MISC_FEATURES.map((name) => [`have_${name}`, misc[name]])),
    kernel_helpers:
      helperCount === undefined ? undefined : HELPERS.slice(1, helperCount + 1).map((name) => `bpf_${name}`),
  };
}

const SENTENCES: Readonly<Record<Sysctl, (value: number) => string>> = {
  unprivileged_bpf_disabled: (value) =>
    ({
      [-1]: "Unable to retrieve required privileges for bpf() syscall",
      0: "bpf() syscall for unprivileged users is enabled",
      1: "bpf() syscall restricted to privileged users (without recovery)",
      2: "bpf() syscall restricted to privileged users (admin can change)",
    })[value] ?? `bpf() syscall restriction has unknown value ${value}`,
  bpf_jit_enable: (value) =>
    ({
      [-1]: "Unable to retrieve JIT-compiler status",
      0: "JIT compiler is disabled",
      1: "JIT compiler is enabled",
      2: "JIT compiler is enabled with debugging traces in kernel logs",
    })[value] ?? `JIT-compiler status has unknown value ${value}`,
  bpf_jit_harden: (value) =>
    ({
      [-1]: "Unable to retrieve JIT hardening status",
      0: "JIT compiler hardening is disabled",
      1: "JIT compiler hardening is enabled for unprivileged users",
      2: "JIT compiler hardening is enabled for all users",
    })[value] ?? `JIT hardening status has unknown value ${value}`,
  bpf_jit_kallsyms: (value) =>
    ({
      [-1]: "Unable to retrieve JIT kallsyms export status",
      0: "JIT compiler kallsyms exports are disabled",
      1: "JIT compiler kallsyms exports are enabled for root",
    })[value] ?? `JIT kallsyms exports status has unknown value ${value}`,
  bpf_jit_limit: (value) =>
    value === -1
      ? "Unable to retrieve global memory limit for JIT compiler for unprivileged users"
      : `Global memory limit for JIT compiler for unprivileged users is ${value} bytes`,
};

const MISC_TITLES: Readonly<Record<(typeof MISC_FEATURES)[number], string>> = {
  large_insn_limit: "Large program size limit",
  bounded_loops: "Bounded loop support",
  v2_isa_extension: "ISA extension v2",
  v3_isa_extension: "ISA extension v3",
  v4_isa_extension: "ISA extension v4",
};

/** Joins sections with an empty line between them, without a final line feed. */
function sections(parts: readonly (readonly string[])[]): string {
  return parts.map((lines) => `${lines.join("\n")}\n`).join("\n");
}

export function featuresText(features: Features): string {
  const { sysctls, config, progTypes, mapTypes, helpers, misc, helperCount } = features;
  const is = (what: string, has: boolean): string => `${what} is ${has ? "" : "NOT "}available`;
  const values = config === undefined ? undefined : valuesOf(config);
  const option = (name: string): string => {
    const value = values!.get(name);
    return value === undefined ? `${name} is not set` : `${name} is set to ${escapeText(value)}`;
  };
  const parts: (readonly string[])[] = [
    [
      "Scanning system configuration...",
      ...SYSCTLS.map((name) => SENTENCES[name](sysctls[name])),
      ...(values === undefined ? [] : OPTIONS.map(option)),
    ],
    ["Scanning system call availability...", is("bpf() syscall", features.hasSyscall)],
  ];
  if (!features.hasSyscall) return sections(parts);
  parts.push(
    [
      "Scanning eBPF program types...",
      ...named(PROG_TYPES, progTypes).map(({ name, has }) => is(`eBPF program_type ${name}`, has)),
    ],
    [
      "Scanning eBPF map types...",
      ...named(MAP_TYPES, mapTypes).map(({ name, has }) => is(`eBPF map_type ${name}`, has)),
    ],
  );
  if (helpers !== undefined)
    parts.push([
      "Scanning eBPF helper functions...",
      ...named(PROG_TYPES, progTypes).flatMap(({ name, has, type }) => {
        const ids = helpers[type] ?? [];
        const none = has
          ? "\tCould not determine which helpers are available"
          : "\tProgram type not supported";
        return [
          `eBPF helpers supported for program type ${name}:`,
          ...(ids.length === 0 ? [none] : ids.map((id) => `\t- bpf_${HELPERS[id]}`)),
        ];
      }),
    ]);
  if (misc !== undefined)
    parts.push([
      "Scanning miscellaneous eBPF features...",
      ...MISC_FEATURES.map((name) => is(MISC_TITLES[name], misc[name])),
    ]);
  if (helperCount !== undefined)
    parts.push([
      "eBPF helpers of this kernel, for any program type:",
      ...HELPERS.slice(1, helperCount + 1).map((name) => `\t- bpf_${name}`),
    ]);
  return sections(parts);
}

/** Prints macros for a C header. `full`: include helpers that only a full probe tries. */
export function featuresMacros(features: Features, prefix: string, full: boolean): string {
  const { config, progTypes, mapTypes, helpers, misc } = features;
  const have = (name: string, has: boolean): string => `#define ${prefix}${has ? "" : "NO_"}HAVE_${name}`;
  const values = config === undefined ? undefined : valuesOf(config);
  const option = (name: string): string => {
    const value = values!.get(name);
    return value === undefined
      ? `/* ${prefix}${name} is not set */`
      : `#define ${prefix}${name} ${escapeText(value)}`;
  };
  const parts: (readonly string[])[] = [
    ["/*** Misc kernel config items ***/", ...(values === undefined ? [] : MACRO_OPTIONS.map(option))],
    ["/*** System call availability ***/", have("BPF_SYSCALL", features.hasSyscall)],
  ];
  if (!features.hasSyscall) return sections(parts);
  parts.push(
    [
      "/*** eBPF program types ***/",
      ...named(PROG_TYPES, progTypes).map(({ name, has }) => have(`${name.toUpperCase()}_PROG_TYPE`, has)),
    ],
    [
      "/*** eBPF map types ***/",
      ...named(MAP_TYPES, mapTypes).map(({ name, has }) => have(`${name.toUpperCase()}_MAP_TYPE`, has)),
    ],
  );
  if (helpers !== undefined)
    parts.push([
      "/*** eBPF helper functions ***/",
      `#define ${prefix}HAVE_PROG_TYPE_HELPER(prog_type, helper)	\\`,
      `	${prefix}BPF__PROG_TYPE_ ## prog_type ## __HELPER_ ## helper`,
      ...named(PROG_TYPES, progTypes).flatMap(({ name, type }) =>
        HELPERS.flatMap((helper, id) =>
          id === 0 || (!full && LOGGING_HELPERS.includes(helper))
            ? []
            : [
                `#define ${prefix}BPF__PROG_TYPE_${name}__HELPER_bpf_${helper} ${helpers[type]?.includes(id) === true ? 1 : 0}`,
              ],
        ),
      ),
    ]);
  if (misc !== undefined)
    parts.push([
      "/*** eBPF misc features ***/",
      ...MISC_FEATURES.map((name) => have(name.toUpperCase(), misc[name])),
    ]);
  return sections(parts);
}
