/** Lists bpf file systems that tokens can be created from: `struct bpf_mount_opts` of every bpf `struct super_block`. */
import { optional, ptr, struct, u64 } from "../../btf/struct.ts";
import type { TokenMount } from "../../features.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { pathOf } from "../kernel/paths.ts";
import { bpfFileSystems } from "./pins.ts";

const SUPER_BLOCK = struct("super_block", { s_fs_info: ptr });
const SINCE = optional(u64, "since 6.9");
const MOUNT_OPTS = struct("bpf_mount_opts", {
  delegate_cmds: SINCE,
  delegate_maps: SINCE,
  delegate_progs: SINCE,
  delegate_attachs: SINCE,
});

/** kernel/bpf/inode.c, `bpf_show_options`: the enum of each mask, and the prefix of its names. */
const ENUMS = {
  cmds: ["bpf_cmd", "BPF_", "__MAX_BPF_CMD"],
  maps: ["bpf_map_type", "BPF_MAP_TYPE_", "__MAX_BPF_MAP_TYPE"],
  progs: ["bpf_prog_type", "BPF_PROG_TYPE_", "__MAX_BPF_PROG_TYPE"],
  attachs: ["bpf_attach_type", "BPF_", "__MAX_BPF_ATTACH_TYPE"],
} as const;

/** Empty before 6.9, which has no delegation. Throws `KtstrError` if the list of file systems is damaged. */
export function listTokenMounts(kernel: GuestKernel, warn: (sentence: string) => void): TokenMount[] {
  const options = MOUNT_OPTS.resolveIfPresent(kernel.btf);
  if (options === undefined) return [];
  const onFault = (error: unknown): void =>
    warn(`bpf file systems are left out: ${error instanceof Error ? error.message : error}`);
  const { s_fs_info } = SUPER_BLOCK.resolve(kernel.btf);
  const all: TokenMount[] = [];
  for (const { block, root, mounts } of bpfFileSystems(kernel, onFault)) {
    const of = block.follow(s_fs_info, "s_fs_info");
    if (of.isNull) continue;
    const named = (kind: keyof typeof ENUMS): string[] => {
      const offset = options[`delegate_${kind}`];
      return offset === undefined ? [] : namesOf(kernel, of.u64(offset, `delegate_${kind}`), kind);
    };
    const names = {
      ...{ cmds: named("cmds"), maps: named("maps") },
      ...{ progs: named("progs"), attachs: named("attachs") },
    };
    if (Object.values(names).every((list) => list.length === 0)) continue;
    for (const mount of mounts) all.push({ path: Buffer.from(pathOf(kernel, mount, root)), ...names });
  }
  return all;
}

/** `seq_print_delegate_opts`: names in the enum's order, "any" for all known ones, the rest in hex. */
function namesOf({ btf }: GuestKernel, mask: bigint, kind: keyof typeof ENUMS): string[] {
  const [name, prefix, max] = ENUMS[kind];
  const id = btf.find(name, BTF_KIND.ENUM);
  const values = id === undefined ? [] : [...btf.enumValues(id)];
  const count = values.find((one) => one.name === max)?.value;
  const any = count === undefined || BigInt(count) >= 64n ? 2n ** 64n - 1n : (1n << BigInt(count)) - 1n;
  let left = mask & any;
  if (left === 0n) return [];
  if (left === any) return ["any"];
  const names: string[] = [];
  for (const { name: one, value } of values) {
    const bit = BigInt(value);
    if (!one.startsWith(prefix) || bit < 0n || bit > 63n || (left & (1n << bit)) === 0n) continue;
    names.push(one.slice(prefix.length).toLowerCase());
    left &= ~(1n << bit);
  }
  return left === 0n ? names : [...names, `0x${left.toString(16)}`];
}
