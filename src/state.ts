/**
 * The interfaces to a kernel's BPF state. `src/live/` and `src/guest/` implement them. Reports use only these interfaces and
 * do not depend on the source.
 */
import type { Btf } from "./btf/btf.ts";
import type { CallTargets, MachineFunction, ProgCode } from "./prog-code.ts";

/** The result of a read. A failed read has a reason; it never returns an empty value. */
export type Read<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: Unreadable };

/** Why a read failed. `detail` is a sentence for the user. */
export interface Unreadable {
  readonly reason:
    | "wrong-type" // the map's type does not support this kind of read
    | "out-of-range" // a key >= max_entries, or bytes outside of the value
    | "not-present" // a page, per-CPU area or pointer target that the image does not contain
    | "lost-race" // the object was freed during the read
    | "not-permitted" // the kernel denies the read (privilege, flags, a write-only map)
    | "unsupported" // this kernel or data path cannot read it
    | "corrupt"; // the data is inconsistent
  readonly detail: string;
}

export const found = <T>(value: T): Read<T> => ({ ok: true, value });
export const unreadable = (reason: Unreadable["reason"], detail: string): { ok: false; why: Unreadable } => ({
  ok: false,
  why: { reason, detail },
});

/** Attributes of a map: `struct bpf_map_info`, or the same data from `struct bpf_map`. Sizes are in bytes. */
export interface MapInfo {
  readonly id: number;
  /** `enum bpf_map_type`. Types that ktstr does not know are numbers too. */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** At most 16 bytes, cut at the first NUL, in any encoding. */
  readonly name: Uint8Array;
  /** The network card that holds the elements; undefined if the kernel holds them. */
  readonly device: OffloadDevice | undefined;
  /** Id of the BTF object with the types of key and value; 0 if there is none. */
  readonly btfId: number;
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
  /** Value type of a struct_ops map, in the BTF of the kernel or of the module `btfVmlinuxId`; 0 for other maps. */
  readonly btfVmlinuxValueTypeId: number;
  readonly btfVmlinuxId: number;
  readonly mapExtra: bigint;
  /** undefined if /proc is not mounted: only the map's fdinfo has it. */
  readonly frozen: boolean | undefined;
  /** Memory that the kernel accounts for the map, in bytes; undefined if unknown. */
  readonly memlockBytes: number | undefined;
  /** For prog arrays: type and jited flag of the programs that the map accepts; undefined if the map has no owner. */
  readonly ownerProgType: number | undefined;
  readonly ownerJited: boolean | undefined;
  /** Location in a memory image; undefined on the live path. */
  readonly location: MapLocation | undefined;
}

/** The network device that a program or map is offloaded to (kernel/bpf/offload.c). */
export interface OffloadDevice {
  readonly ifindex: number;
  /** Device and inode number of the file of the device's network namespace, as in `stat`. */
  readonly netnsDev: bigint;
  readonly netnsIno: bigint;
  /** undefined if the device is in another network namespace than the reader. */
  readonly name: Uint8Array | undefined;
}

export interface MapLocation {
  /** `struct bpf_map *`, guest virtual address. */
  readonly address: bigint;
  /** Guest physical address of the same struct. */
  readonly physical: number;
  /** Address of the values (`bpf_array.value`, `bpf_struct_ops_map.kvalue`, ...); undefined if they are not contiguous. */
  readonly valueAddress: bigint | undefined;
}

/** How a walk ended. A walk does not throw for entries that it cannot read; it counts them here. */
export interface WalkEnd {
  /** All entries were visited. */
  readonly complete: boolean;
  /** Why the walk stopped early ("the map changed faster than it could be read"); "" if it is complete. */
  readonly stopped: string;
  /** Number of entries that could not be read, by reason. */
  readonly skipped: ReadonlyMap<string, number>;
}

/**
 * A walk over the elements of a map without allocation per element. After `next()` returned true, the key is
 * `keyBytes[keyOffset .. + keySize)` and the value is `valueBytes[valueOffset .. + valueSize)`. Both are valid until the next
 * call, which can replace both buffers.
 *
 * The cursor of a per-CPU map has `cpuCount` > 0. The value of `cpus[i]` is at `valueOffset + i * valueStride`.
 */
export interface EntryCursor extends Disposable {
  readonly keySize: number;
  readonly valueSize: number;
  /** 0 if all CPUs share one value. */
  readonly cpuCount: number;
  /** The CPU of each copy; absent if they are 0 to `cpuCount` - 1. */
  readonly cpus?: readonly number[] | undefined;
  /** Distance between the values of two CPUs in bytes; 0 if there is one value. */
  readonly valueStride: number;
  readonly keyBytes: Uint8Array;
  readonly keyOffset: number;
  readonly valueBytes: Uint8Array;
  readonly valueOffset: number;
  /** "" if the value was read, else why it was not. In that case, do not use the value. */
  readonly valueMissing: string;
  /** Information about the entry that is not in its bytes ("cgroup 64 /batch"); absent or "" if there is none. */
  readonly note?: string;
  next(): boolean;
  /** Valid after `next()` returned false. */
  readonly end: WalkEnd;
}

/** The copy of a value on one CPU. */
export interface CpuValue {
  readonly cpu: number;
  readonly value: Uint8Array;
}

/** An allocated page of an arena. */
export interface ArenaPage {
  readonly index: number;
  /** The address in user space and in BPF pointers: `map_extra` (or the base of the mapping) + index * page size. */
  readonly userAddress: bigint;
  readonly bytes: Uint8Array;
}

export interface ArenaPages {
  readonly pageSize: number;
  /** Size of the searched range in bytes. */
  readonly spanBytes: number;
  /** The arena claims to be larger than 4 GiB, which is impossible. The rest was not searched. */
  readonly spanCapped: boolean;
  /** The arena has more than 16,384 pages. The rest was not read. */
  readonly truncated: boolean;
  readonly pages: readonly ArenaPage[];
  /** Number of allocated pages that the memory image does not contain; absent if there are none. */
  readonly missingPages?: number;
}

/** The owner of a local storage element. */
export type StorageOwner =
  | { readonly kind: "task"; readonly pid: number; readonly tgid: number; readonly comm: Uint8Array }
  | { readonly kind: "cgroup"; readonly id: bigint; readonly path: Uint8Array }
  | { readonly kind: "inode"; readonly inode: bigint; readonly superblock: Uint8Array }
  | { readonly kind: "socket"; readonly address: bigint; readonly family: number; readonly protocol: number }
  | { readonly kind: "unknown"; readonly why: string };

/** A value without a key: an entry of a queue or stack, a record of a ring buffer, a local storage element. */
export interface ContentRecord {
  readonly value: Uint8Array;
  readonly owner?: StorageOwner;
  /** Information about the record that is not in its bytes ("busy", "discarded"). */
  readonly note?: string;
}

/** The contents of a map in the form that fits its type. */
export type MapContents =
  | {
      readonly kind: "entries";
      readonly cursor: EntryCursor;
      /** Number of entries, if it is known without a walk. */
      readonly count?: number | undefined;
    }
  /** In the order in which the map returns them; local storage maps have no order. */
  | { readonly kind: "records"; readonly records: readonly ContentRecord[]; readonly end: WalkEnd }
  | { readonly kind: "arena"; readonly arena: ArenaPages }
  | { readonly kind: "unreadable"; readonly why: Unreadable };

export interface MapAccessor {
  /** All maps by ascending id. */
  maps(): readonly MapInfo[];
  /** Returns one map; the live path does not walk the other maps. undefined if it does not exist or may not be opened. */
  mapById(id: number): MapInfo | undefined;
  /**
   * Returns the key after `key` in the kernel's order, or the first key. Fails with `not-present` after the last one. Absent
   * if keys are only available by a walk.
   */
  nextKey?(map: MapInfo, key: Uint8Array | undefined): Read<Uint8Array>;
  /** Reads `length` bytes at `offset` of a map with a single value (`ARRAY` with key 0, `STRUCT_OPS`). */
  readValue(map: MapInfo, offset: number, length: number): Read<Uint8Array>;
  /** Reads one element of an array map. */
  readArray(map: MapInfo, key: number): Read<Uint8Array>;
  /** Walks a hash or LRU hash map. */
  hashEntries(map: MapInfo): Read<EntryCursor>;
  /** Reads the copies of all possible CPUs of one element of a per-CPU array. */
  percpuArray(map: MapInfo, key: number): Read<readonly CpuValue[]>;
  /** Walks a per-CPU hash or per-CPU LRU hash map, with the copies of all possible CPUs. */
  percpuHashEntries(map: MapInfo): Read<EntryCursor>;
  arenaPages(map: MapInfo): Read<ArenaPages>;
  /** Reads a map of any type, for dumps. */
  contents(map: MapInfo): MapContents;
  /** Looks up a key. Per-CPU maps return the values of all CPUs. */
  lookup(map: MapInfo, key: Uint8Array): Read<Uint8Array | readonly CpuValue[]>;
  /** The BTF of the object that created the map. It describes key and value. */
  programBtf(map: MapInfo): Read<Btf>;
}

/** Attributes of a program: `struct bpf_prog_info`, or the same data from `struct bpf_prog` and its `aux`. */
export interface ProgInfo {
  readonly id: number;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  /** At most 16 bytes, cut at the first NUL. */
  readonly name: Uint8Array;
  /** The function's name from the program's BTF if the kernel's name (15 bytes) may be cut, else `name`. */
  readonly fullName: Uint8Array;
  /** 8 bytes. */
  readonly tag: Uint8Array;
  readonly gplCompatible: boolean;
  /** Nanoseconds since boot. */
  readonly loadTimeNs: bigint;
  readonly createdByUid: number;
  /** The network card that runs the program; undefined if the CPUs run it. */
  readonly device: OffloadDevice | undefined;
  readonly mapIds: readonly number[];
  readonly btfId: number;
  readonly attachBtfObjId: number;
  readonly attachBtfId: number;
  /** Size of the translated instructions in bytes. */
  readonly translatedBytes: number;
  /** Size of the machine code in bytes; 0 if not jited. */
  readonly jitedBytes: number;
  readonly jited: boolean;
  readonly memlockBytes: number | undefined;
  /** Number of instructions that the verifier processed; undefined before 5.16. */
  readonly verifiedInsns: number | undefined;
  readonly stats: Read<ProgStats>;
  /** `struct bpf_prog *` in a memory image; undefined on the live path. */
  readonly address: bigint | undefined;
}

/** Run-time counters (`struct bpf_prog_stats`) summed over CPUs, limited to 2^64-1. */
export interface ProgStats {
  readonly count: bigint;
  readonly runTimeNs: bigint;
  readonly misses: bigint;
}

/** The run-time counters of one CPU. */
export interface CpuStats extends ProgStats {
  readonly cpu: number;
}

/** A bpf link. `details` are type-specific attributes under bpftool's names, in bpftool's order. */
export interface LinkInfo {
  readonly id: number;
  /** `enum bpf_link_type`. */
  readonly type: number;
  readonly progId: number;
  /** Read lazily on the guest path, so the guest must still be open. */
  readonly details: LinkDetails;
}

/** Plain data with bpftool's key names. */
export type LinkDetails = {
  readonly [key: string]: string | number | bigint | boolean | null | LinkDetails | readonly LinkDetails[];
};

/** A BTF object: `struct bpf_btf_info`, or the same data from `struct btf`. */
export interface BtfInfo {
  readonly id: number;
  readonly sizeBytes: number;
  /** "" for the BTF of a program; "vmlinux" or the name of a module for the kernel's. */
  readonly name: Uint8Array;
  readonly kernel: boolean;
}

/** The attached sched_ext scheduler, as determined from its programs and maps. */
export interface ActiveScheduler {
  /** The name in its `struct sched_ext_ops` ("scx_simple"); "" if unknown. */
  readonly opsName: string;
  /** The prefix before `.bss`, `.data` or `.rodata` in the names of its maps; never empty. */
  readonly objectPrefix: string;
  /** Ids of all maps that its struct_ops programs use, ascending. */
  readonly mapIds: readonly number[];
  /** Ids of its struct_ops programs, ascending. */
  readonly progIds: readonly number[];
  /** The kernel's own state ("enabled"), if it was readable. */
  readonly state: string;
}

export interface ProgAccessor {
  /** All programs by ascending id. `type` selects one `enum bpf_prog_type`. */
  progs(filter?: { readonly type?: number }): readonly ProgInfo[];
  /** Returns one program; the live path does not walk the others. undefined if it does not exist or may not be opened. */
  progById(id: number): ProgInfo | undefined;
  /** A program's instructions with functions and source lines. */
  progCode(prog: ProgInfo): Read<ProgCode>;
  /** A program's machine code by function; empty if it is not jited or the kernel does not permit reading it. */
  machineCode(prog: ProgInfo): Read<readonly MachineFunction[]>;
  /** A program's counters on every possible CPU, ascending. Absent on the live path: bpf(2) returns only sums. */
  cpuStats?(prog: ProgInfo): Read<readonly CpuStats[]>;
  /** Names of the functions that these programs call. */
  callTargets(codes: readonly ProgCode[]): Read<CallTargets>;
  links(): readonly LinkInfo[];
  btfs(): readonly BtfInfo[];
  /** A BTF object by id. The split BTF of a kernel module has the kernel's BTF as its base. */
  btf(id: number): Read<Btf>;
  /** The BTF of the kernel. */
  kernelBtf(): Read<Btf>;
  /** undefined if no sched_ext scheduler is attached. */
  activeScheduler(): ActiveScheduler | undefined;
}

/** A process that holds an object by a file descriptor. */
export interface Holder {
  readonly pid: number;
  /** Name of the thread group leader: at most 15 bytes, not necessarily UTF-8. */
  readonly comm: Uint8Array;
}

/** Object types that a process can hold by a file descriptor. */
export type HeldKind = "map" | "prog" | "link" | "btf";

/** Holders by object type and id, by ascending pid. Objects without holders are absent. */
export type Holders = { readonly [kind in HeldKind]: ReadonlyMap<number, readonly Holder[]> } & {
  /** Number of processes whose descriptors this user cannot read; undefined if there are none. */
  readonly hidden?: number;
};

/** The machine whose BPF state is read. */
export interface KernelInfo {
  /** `uname -r`. */
  readonly release: string;
  /** `uname -v`, or the end of the kernel's banner; "" if unknown. */
  readonly version: string;
  /** `uname -m`. */
  readonly machine: string;
  /** undefined if unknown because /sys is not mounted. */
  readonly possibleCpus: number | undefined;
  readonly onlineCpus: number | undefined;
  readonly pageSize: number;
  /** Whether `kernel.bpf_stats_enabled` is on; undefined if unknown. */
  readonly statsEnabled: boolean | undefined;
  /** Unix time of boot (`CLOCK_REALTIME - CLOCK_BOOTTIME`) in nanoseconds; undefined if unknown. */
  readonly bootTimeUnixNs: bigint | undefined;
  /** `CLOCK_BOOTTIME` in nanoseconds; for a frozen machine, at its last tick. undefined if unknown. */
  readonly uptimeNs: bigint | undefined;
}

/** The interface of a data path: every read that reports use. */
export interface BpfState extends MapAccessor, ProgAccessor, Disposable {
  kernel(): KernelInfo;
  /** Returns which processes hold objects. The result is cached. */
  holders(): Read<Holders>;
  /** Sentences about objects that could not be read and assumptions that were made. Grows with each read. */
  readonly warnings: readonly string[];
  /** Reads `length` bytes at a kernel address, for following typed pointers. Absent if kernel memory cannot be read. */
  readKernel?(address: bigint, length: number): Read<Uint8Array>;
  /** Returns the symbol that contains an address, of the kernel or a program: "schedule+0x10". Absent without symbols. */
  symbolAt?(address: bigint): string | undefined;
}
