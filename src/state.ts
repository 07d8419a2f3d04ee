/**
 * What a data path tells about a kernel's BPF state. `src/live/` and `src/guest/` implement these interfaces;
 * a report is written against them and never knows which one it reads.
 */
import type { Btf } from "./btf/btf.ts";
import type { CallTargets, MachineFunction, ProgCode } from "./prog-code.ts";

/** A read's answer. One that cannot be given says why; it is never an empty value. */
export type Read<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: Unreadable };

/** Why a read has no answer. `detail` is a sentence for people. */
export interface Unreadable {
  readonly reason:
    | "wrong-type" // this kind of read does not fit the map's type
    | "out-of-range" // a key at or past max_entries, bytes outside the value
    | "not-present" // a page, a per-CPU area or a pointer that leads nowhere in the image
    | "lost-race" // it was there, and went away while it was read
    | "not-permitted" // the kernel refuses (privilege, flags, a write-only map)
    | "unsupported" // this kernel or this data path has no way to read it
    | "corrupt"; // the bytes contradict themselves
  readonly detail: string;
}

export const found = <T>(value: T): Read<T> => ({ ok: true, value });
export const unreadable = (reason: Unreadable["reason"], detail: string): { ok: false; why: Unreadable } => ({
  ok: false,
  why: { reason, detail },
});

/** A map's attributes: `struct bpf_map_info`, or the same read from `struct bpf_map`. Sizes in bytes. */
export interface MapInfo {
  readonly id: number;
  /** `enum bpf_map_type`; a type newer than our table is still a number. */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** At most 16 bytes, cut at the first NUL, in whatever encoding the creator chose. */
  readonly name: Uint8Array;
  /** The network card that holds the map's elements; undefined: the kernel does. */
  readonly device: OffloadDevice | undefined;
  /** The BTF object that describes key and value; 0: none. */
  readonly btfId: number;
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
  /** A struct_ops map's value type in the BTF of the kernel (or of the module `btfVmlinuxId`); 0: not struct_ops. */
  readonly btfVmlinuxValueTypeId: number;
  readonly btfVmlinuxId: number;
  readonly mapExtra: bigint;
  /** undefined where /proc is not mounted: only a map's fdinfo tells. */
  readonly frozen: boolean | undefined;
  /** Bytes that the map costs, as the kernel accounts them; undefined where that is not known. */
  readonly memlockBytes: number | undefined;
  /** For prog arrays: the type and jited flag of the programs that it takes; undefined while it has no owner. */
  readonly ownerProgType: number | undefined;
  readonly ownerJited: boolean | undefined;
  /** Where it lies in a memory image; undefined on the live path. */
  readonly location: MapLocation | undefined;
}

/** A network device that programs and maps are offloaded to (kernel/bpf/offload.c). */
export interface OffloadDevice {
  readonly ifindex: number;
  /** The file of the device's network namespace: the device and inode number that `stat` gives. */
  readonly netnsDev: bigint;
  readonly netnsIno: bigint;
  /** undefined where the device is in another network namespace than its reader. */
  readonly name: Uint8Array | undefined;
}

export interface MapLocation {
  /** `struct bpf_map *`, guest virtual. */
  readonly address: bigint;
  /** The same, guest physical. */
  readonly physical: number;
  /** Where the values lie (`bpf_array.value`, `bpf_struct_ops_map.kvalue`, ...); undefined where there is no one region. */
  readonly valueAddress: bigint | undefined;
}

/** How a walk ended. A walk never throws for what it could not read; it counts it here. */
export interface WalkEnd {
  /** Everything that was there was seen. */
  readonly complete: boolean;
  /** Why it stopped early ("the map changed faster than it could be read"); "" where it is complete. */
  readonly stopped: string;
  /** Entries that were seen and could not be read, by reason. */
  readonly skipped: ReadonlyMap<string, number>;
}

/**
 * A walk over a map's elements that allocates nothing per element. After `next()` returned true the current key
 * is `keyBytes[keyOffset .. + keySize)` and the value `valueBytes[valueOffset .. + valueSize)`; both are valid
 * until the next call, and both buffers may be another object after it.
 *
 * A per-CPU map's cursor has `cpuCount` > 0 and the value of `cpus[i]` at `valueOffset + i * valueStride`.
 */
export interface EntryCursor extends Disposable {
  readonly keySize: number;
  readonly valueSize: number;
  /** 0: one value for all CPUs. */
  readonly cpuCount: number;
  /** The CPU of each copy, where they are not 0 to `cpuCount` - 1. */
  readonly cpus?: readonly number[] | undefined;
  /** Bytes from one CPU's value to the next; 0 where there is one value. */
  readonly valueStride: number;
  readonly keyBytes: Uint8Array;
  readonly keyOffset: number;
  readonly valueBytes: Uint8Array;
  readonly valueOffset: number;
  /** "" where the value was read, else why this key's value was not (it is then not to be looked at). */
  readonly valueMissing: string;
  /** Words about this entry that its bytes do not hold ("cgroup 64 /batch"); absent or "": none. */
  readonly note?: string;
  next(): boolean;
  /** Valid after `next()` returned false. */
  readonly end: WalkEnd;
}

/** One CPU's copy of a value. */
export interface CpuValue {
  readonly cpu: number;
  readonly value: Uint8Array;
}

/** A page of an arena that the BPF side has allocated. */
export interface ArenaPage {
  readonly index: number;
  /** The address that user space and BPF pointers use: `map_extra` (or the mapping's base) + index x page size. */
  readonly userAddress: bigint;
  readonly bytes: Uint8Array;
}

export interface ArenaPages {
  readonly pageSize: number;
  /** The span that was looked at, in bytes. */
  readonly spanBytes: number;
  /** The arena is larger than 4 GiB, which no arena can be: the rest was not looked at. */
  readonly spanCapped: boolean;
  /** More than 16,384 pages were there: the rest was not read. */
  readonly truncated: boolean;
  readonly pages: readonly ArenaPage[];
  /** Pages that are allocated and whose bytes a memory image does not hold; absent: none. */
  readonly missingPages?: number;
}

/** An owner of a local-storage element. */
export type StorageOwner =
  | { readonly kind: "task"; readonly pid: number; readonly tgid: number; readonly comm: Uint8Array }
  | { readonly kind: "cgroup"; readonly id: bigint; readonly path: Uint8Array }
  | { readonly kind: "inode"; readonly inode: bigint; readonly superblock: Uint8Array }
  | { readonly kind: "socket"; readonly address: bigint; readonly family: number; readonly protocol: number }
  | { readonly kind: "unknown"; readonly why: string };

/** A value with no key of its own: a queue's, a stack's, a ring buffer's record, a task's storage. */
export interface ContentRecord {
  readonly value: Uint8Array;
  readonly owner?: StorageOwner;
  /** Words about this record that its bytes do not hold ("busy", "discarded"). */
  readonly note?: string;
}

/** All that a map holds, in the shape that fits its type. */
export type MapContents =
  | {
      readonly kind: "entries";
      readonly cursor: EntryCursor;
      /** How many entries there are, where that is known without a walk. */
      readonly count?: number | undefined;
    }
  /** In the order that the map would give them out; storage maps have no order. */
  | { readonly kind: "records"; readonly records: readonly ContentRecord[]; readonly end: WalkEnd }
  | { readonly kind: "arena"; readonly arena: ArenaPages }
  | { readonly kind: "unreadable"; readonly why: Unreadable };

export interface MapAccessor {
  /** Every map, by ascending id. */
  maps(): readonly MapInfo[];
  /** One map, on the running kernel without a walk over the others. undefined: there is none, or it may not be opened. */
  mapById(id: number): MapInfo | undefined;
  /**
   * The key that the kernel gives for the one behind `key` (the first without one); `not-present` behind the last. Absent:
   * the keys come by a walk alone.
   */
  nextKey?(map: MapInfo, key: Uint8Array | undefined): Read<Uint8Array>;
  /** `length` bytes at `offset` of a single-value map (`ARRAY` with key 0, `STRUCT_OPS`). */
  readValue(map: MapInfo, offset: number, length: number): Read<Uint8Array>;
  /** One element of an array map. */
  readArray(map: MapInfo, key: number): Read<Uint8Array>;
  /** Every pair of a hash or LRU hash. */
  hashEntries(map: MapInfo): Read<EntryCursor>;
  /** One element of a per-CPU array, every possible CPU's copy. */
  percpuArray(map: MapInfo, key: number): Read<readonly CpuValue[]>;
  /** Every key of a per-CPU hash or per-CPU LRU hash with every possible CPU's copy. */
  percpuHashEntries(map: MapInfo): Read<EntryCursor>;
  arenaPages(map: MapInfo): Read<ArenaPages>;
  /** Everything, whatever the type: what a dump prints. */
  contents(map: MapInfo): MapContents;
  /** One key's value, by the key's bytes; per-CPU maps answer with every CPU's. */
  lookup(map: MapInfo, key: Uint8Array): Read<Uint8Array | readonly CpuValue[]>;
  /** The BTF of the object that made the map: what describes its key and value. */
  programBtf(map: MapInfo): Read<Btf>;
}

/** A program's attributes: `struct bpf_prog_info`, or the same read from `struct bpf_prog` and its `aux`. */
export interface ProgInfo {
  readonly id: number;
  /** `enum bpf_prog_type`. */
  readonly type: number;
  /** At most 16 bytes, cut at the first NUL. */
  readonly name: Uint8Array;
  /** The function's name by the program's BTF, where the kernel's 15 bytes may have cut it; else `name`. */
  readonly fullName: Uint8Array;
  /** 8 bytes. */
  readonly tag: Uint8Array;
  readonly gplCompatible: boolean;
  /** Nanoseconds since boot. */
  readonly loadTimeNs: bigint;
  readonly createdByUid: number;
  /** The network card that the program runs on; undefined: it runs on the CPUs. */
  readonly device: OffloadDevice | undefined;
  readonly mapIds: readonly number[];
  readonly btfId: number;
  readonly attachBtfObjId: number;
  readonly attachBtfId: number;
  /** Bytes of the translated instructions. */
  readonly translatedBytes: number;
  /** 0: not jited. */
  readonly jitedBytes: number;
  readonly jited: boolean;
  readonly memlockBytes: number | undefined;
  /** Instructions that the verifier looked at; undefined where the kernel does not keep it (before 5.16). */
  readonly verifiedInsns: number | undefined;
  readonly stats: Read<ProgStats>;
  /** `struct bpf_prog *` in a memory image; undefined on the live path. */
  readonly address: bigint | undefined;
}

/** Run-time counters (`struct bpf_prog_stats` summed over CPUs), saturating at 2^64-1. */
export interface ProgStats {
  readonly count: bigint;
  readonly runTimeNs: bigint;
  readonly misses: bigint;
}

/** One CPU's part of them. */
export interface CpuStats extends ProgStats {
  readonly cpu: number;
}

/** A bpf link. `details` are type-specific attributes under bpftool's names, in bpftool's order. */
export interface LinkInfo {
  readonly id: number;
  /** `enum bpf_link_type`. */
  readonly type: number;
  readonly progId: number;
  /** Of a frozen machine, they are read when they are first asked for: while it is open. */
  readonly details: LinkDetails;
}

/** Plain data by bpftool's key names. */
export type LinkDetails = {
  readonly [key: string]: string | number | bigint | boolean | null | LinkDetails | readonly LinkDetails[];
};

/** A BTF object: `struct bpf_btf_info` or the same read from `struct btf`. */
export interface BtfInfo {
  readonly id: number;
  readonly sizeBytes: number;
  /** "" for a program's own; "vmlinux" or a module's name for the kernel's. */
  readonly name: Uint8Array;
  readonly kernel: boolean;
}

/** The sched_ext scheduler that is attached, told by its own programs' maps. */
export interface ActiveScheduler {
  /** The name of its `struct sched_ext_ops` where known ("scx_simple"), else "". */
  readonly opsName: string;
  /** What stands before `.bss`, `.data` or `.rodata` in its maps' names; never empty. */
  readonly objectPrefix: string;
  /** Ids of every map that its struct_ops programs use, ascending. */
  readonly mapIds: readonly number[];
  /** Ids of its struct_ops programs, ascending. */
  readonly progIds: readonly number[];
  /** What the kernel's own state says ("enabled"), where it was readable. */
  readonly state: string;
}

export interface ProgAccessor {
  /** Every program, by ascending id; with `type` only those of one `enum bpf_prog_type`. */
  progs(filter?: { readonly type?: number }): readonly ProgInfo[];
  /** One program, on the running kernel without a walk over the others. undefined: there is none, or it may not be opened. */
  progById(id: number): ProgInfo | undefined;
  /** A program's instructions, with its functions and source lines. */
  progCode(prog: ProgInfo): Read<ProgCode>;
  /** A program's machine code, a function after the other; none: it is not jited, or the kernel does not show it. */
  machineCode(prog: ProgInfo): Read<readonly MachineFunction[]>;
  /** A program's counters on every possible CPU, ascending. Absent: bpf(2) tells the sums alone. */
  cpuStats?(prog: ProgInfo): Read<readonly CpuStats[]>;
  /** The names of all that these programs call. */
  callTargets(codes: readonly ProgCode[]): Read<CallTargets>;
  links(): readonly LinkInfo[];
  btfs(): readonly BtfInfo[];
  /** A BTF object by its id; a kernel module's, split, comes over the kernel's. */
  btf(id: number): Read<Btf>;
  /** The kernel's own types. */
  kernelBtf(): Read<Btf>;
  /** undefined: no sched_ext scheduler is attached. */
  activeScheduler(): ActiveScheduler | undefined;
}

/** A process that holds an object open by a descriptor. */
export interface Holder {
  readonly pid: number;
  /** Of its thread group's leader: at most 15 bytes, not assumed UTF-8. */
  readonly comm: Uint8Array;
}

/** What a process can hold by a descriptor. */
export type HeldKind = "map" | "prog" | "link" | "btf";

/** By kind and id, by ascending pid; objects that nobody holds are not there. */
export type Holders = { readonly [kind in HeldKind]: ReadonlyMap<number, readonly Holder[]> } & {
  /** Processes whose descriptors this user may not see; undefined: none. */
  readonly hidden?: number;
};

/** The machine whose BPF state it is. */
export interface KernelInfo {
  /** `uname -r`. */
  readonly release: string;
  /** `uname -v` or the banner's tail; "" where not known. */
  readonly version: string;
  /** `uname -m`. */
  readonly machine: string;
  /** undefined: not known, for /sys is not mounted. */
  readonly possibleCpus: number | undefined;
  readonly onlineCpus: number | undefined;
  readonly pageSize: number;
  /** Whether `kernel.bpf_stats_enabled` is on; undefined where not known. */
  readonly statsEnabled: boolean | undefined;
  /** Unix time of boot (`CLOCK_REALTIME - CLOCK_BOOTTIME`) in nanoseconds; undefined where not known. */
  readonly bootTimeUnixNs: bigint | undefined;
  /** `CLOCK_BOOTTIME` in nanoseconds when it was read; of a frozen machine as of its last tick. undefined where not known. */
  readonly uptimeNs: bigint | undefined;
}

/** A data path: everything that a report asks. */
export interface BpfState extends MapAccessor, ProgAccessor, Disposable {
  kernel(): KernelInfo;
  /** Which processes hold objects open; read once. */
  holders(): Read<Holders>;
  /** Objects that a listing saw and could not read, and every assumption made, as sentences; grows as reads are made. */
  readonly warnings: readonly string[];
  /** `length` bytes at an address of the kernel, for following typed pointers. Absent: there is no way to read it. */
  readKernel?(address: bigint, length: number): Read<Uint8Array>;
  /** "schedule+0x10": the symbol, the kernel's or a program's, that an address lies in. Absent: no symbols are known. */
  symbolAt?(address: bigint): string | undefined;
}
