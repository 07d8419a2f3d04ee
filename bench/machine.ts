/**
 * Builds memory files of frozen machines for measurements: sparse files with real page tables, the running kernel's types, and as
 * much BPF state as a case needs. The C references open the same files; `guestWords` returns the addresses that they need.
 */
import { closeSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Btf } from "../src/btf/btf.ts";
import { bytes, place, ptr, struct, u32 } from "../src/btf/struct.ts";
import { Mapping, mmap, PROT_READ, PROT_WRITE } from "../src/ffi.ts";
import { type GuestMap, listMaps } from "../src/guest/bpf/map-info.ts";
import { type GuestKernel, openKernel } from "../src/guest/kernel/kernel.ts";
import type { Read } from "../src/state.ts";
import { SyntheticKernel } from "../test/guest/machine.ts";
import type { KernelTypes } from "../test/guest/types.ts";

export const KERNEL_BTF = "/sys/kernel/btf/vmlinux";

const PAGE = 4096;
/** Flags of a page-table entry: present, writable, accessed, dirty. */
const ENTRY = 0x63;
const VMALLOC = 0xffa0_0000_0000_0000n;
/** Address of CPU 0's copy of per-CPU address 0, and distance from one CPU's copy to the next. */
const PERCPU = 0xffd1_0000_0000_0000n;
const PERCPU_STRIDE = 0x4_0000;

const IDR = struct("idr", { head: bytesAt("idr_rt.xa_head"), idr_base: u32 });
const NODE = struct("xa_node", { shift: place, slots: place });
const CPUMASK = struct("cpumask", { bits: place });
const RESOURCE = struct("resource", { start: place, end: place, name: place, sibling: place, child: place });
const MAP = struct("bpf_map", {
  map_type: u32,
  key_size: u32,
  value_size: u32,
  max_entries: u32,
  id: u32,
  name: bytes(16),
  ops: ptr,
});

function bytesAt(path: string): typeof ptr {
  return { ...ptr, paths: [path] };
}

/** Allocated kernel memory: its virtual address, and the physical address of each of its bytes. */
export interface Region {
  readonly address: bigint;
  readonly hi: number;
  /** Unsigned. */
  readonly lo: number;
  physical(offset: number): number;
}

export interface MapAttributes {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

export class BenchMachine implements Disposable {
  readonly path: string;
  readonly btf: Btf;
  readonly kernel: SyntheticKernel;
  readonly view: DataView;
  readonly cpus: number;
  readonly #mapping: Mapping;
  readonly #maps: bigint[] = [];
  #vmalloc = VMALLOC;

  /** Creates a machine of `sizeBytes` (at most 4 GiB) in its own file in `folder`. */
  constructor(folder: string, sizeBytes: number, cpus = 2) {
    this.path = join(folder, "mem");
    this.cpus = cpus;
    const size = Math.ceil((sizeBytes + 32 * 2 ** 20) / 2 ** 21) * 2 ** 21;
    const fd = openSync(this.path, "w+");
    ftruncateSync(fd, size);
    const mapping = mmap({ fd, offset: 0, length: size, protection: PROT_READ | PROT_WRITE });
    closeSync(fd);
    if (!(mapping instanceof Mapping)) throw new Error(`mmap ${this.path}: errno ${-mapping}`);
    this.#mapping = mapping;
    const types = readFileSync(KERNEL_BTF);
    this.btf = Btf.parse(types);
    this.kernel = new SyntheticKernel({
      bytes: new Uint8Array(mapping.buffer),
      types: this.#types(types),
      perCpuOffsets: Array.from({ length: cpus }, (_, cpu) => PERCPU + BigInt(cpu * PERCPU_STRIDE)),
    });
    this.view = this.kernel.machine.view;
  }

  #types(types: Uint8Array): KernelTypes {
    const { btf } = this;
    return {
      bytes: types,
      idrBytes: IDR.resolve(btf).sizeof,
      cpumaskBytes: CPUMASK.resolve(btf).sizeof,
      resource: { ...RESOURCE.resolve(btf), size: RESOURCE.resolve(btf).sizeof },
    };
  }

  /** Allocates like kmalloc: contiguous memory, addressed through the direct map. */
  kmalloc(size: number): Region {
    const { machine } = this.kernel;
    const start = machine.allocate(size, PAGE);
    return regionAt(machine.direct(start), (offset) => start + offset);
  }

  /** Allocates like vmalloc: scattered pages, mapped by page tables. */
  vmalloc(size: number): Region {
    const address = this.#vmalloc;
    const count = Math.ceil(size / PAGE);
    this.#vmalloc += BigInt((count + 1) * PAGE);
    return this.#map(address, count);
  }

  #map(address: bigint, count: number): Region {
    const pages = shuffled(this.kernel.machine.allocate(count * PAGE, PAGE), count);
    let table = 0;
    for (let index = 0; index < count; index++) {
      const at = address + BigInt(index * PAGE);
      if (index === 0 || (at & 0x1f_f000n) === 0n) table = this.kernel.machine.entry(at, "PTE");
      else table += 8;
      this.view.setUint32(table, (pages[index]! % 2 ** 32) + ENTRY, true);
      this.view.setUint32(table + 4, Math.floor(pages[index]! / 2 ** 32), true);
    }
    return regionAt(address, (offset) => pages[Math.floor(offset / PAGE)]! + (offset % PAGE));
  }

  /** Allocates per-CPU memory at the per-CPU address `at`, which must be that of a page. Returns a region per CPU. */
  percpu(at: number, size: number): readonly Region[] {
    return Array.from({ length: this.cpus }, (_, cpu) =>
      this.#map(PERCPU + BigInt(cpu * PERCPU_STRIDE + at), Math.ceil(size / PAGE)),
    );
  }

  /** Stores the address of a byte in `to` as a pointer in `region`. */
  setPointer(region: Region, offset: number, to: Region, toOffset: number): void {
    const at = region.physical(offset);
    const lo = to.lo + toOffset;
    this.view.setUint32(at, lo % 2 ** 32, true);
    this.view.setUint32(at + 4, to.hi + Math.floor(lo / 2 ** 32), true);
  }

  setU64(region: Region, offset: number, value: number): void {
    const at = region.physical(offset);
    this.view.setUint32(at, value % 2 ** 32, true);
    this.view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
  }

  setU32(region: Region, offset: number, value: number): void {
    this.view.setUint32(region.physical(offset), value, true);
  }

  /** Writes a `struct bpf_map` at the start of a region, with the next free id. */
  addMap(region: Region, { type, keySize, valueSize, maxEntries }: MapAttributes): void {
    const offsets = MAP.resolve(this.btf);
    this.#maps.push(region.address);
    const id = this.#maps.length;
    this.setU32(region, offsets.map_type, type);
    this.setU32(region, offsets.key_size, keySize);
    this.setU32(region, offsets.value_size, valueSize);
    this.setU32(region, offsets.max_entries, maxEntries);
    this.setU32(region, offsets.id, id);
    for (const [index, byte] of Buffer.from(`bench_${id}`).entries())
      this.view.setUint8(region.physical(offsets.name) + index, byte);
  }

  /** Adds all maps to `map_idr`. Must be called once, before the machine is opened. */
  finish(): void {
    this.fillIdr("map_idr", this.#maps);
  }

  /** Builds the IDR of a symbol from objects, which get the ids 1, 2 and so on. */
  fillIdr(symbol: string, objects: readonly bigint[]): void {
    const { machine } = this.kernel;
    const node = NODE.resolve(this.btf);
    let level: bigint[] = [0n, ...objects];
    let shift = 0;
    do {
      const nodes: bigint[] = [];
      for (let first = 0; first < level.length; first += 64) {
        const at = machine.allocate(node.sizeof, 64);
        machine.view.setUint8(at + node.shift, shift);
        level.slice(first, first + 64).forEach((entry, slot) => {
          machine.writeU64(at + node.slots + 8 * slot, entry);
        });
        nodes.push(machine.direct(at) | 2n);
      }
      level = nodes;
      shift += 6;
    } while (level.length > 1);
    machine.writeU64(this.kernel.physicalOf(symbol) + IDR.resolve(this.btf).head, level[0]!);
  }

  /** Returns FILE DIRECT_BASE ROOT LEVELS, the arguments of `open_guest` in bench/reference/guest.h. */
  guestWords(): readonly (string | number | bigint)[] {
    const { machine } = this.kernel;
    return [this.path, machine.directBase, machine.root, machine.mode.levels.length];
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }
}

function regionAt(address: bigint, physical: (offset: number) => number): Region {
  return { address, hi: Number(address >> 32n), lo: Number(address & 0xffff_ffffn), physical };
}

/** Returns the addresses of `count` pages from `start` on in random order, as on a machine that has run for a long time. */
function shuffled(start: number, count: number): Float64Array {
  const pages = Float64Array.from({ length: count }, (_, index) => start + index * PAGE);
  let seed = 1;
  for (let index = count - 1; index > 0; index--) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
    const other = Math.floor(((seed >>> 0) / 2 ** 32) * (index + 1));
    [pages[index], pages[other]] = [pages[other]!, pages[index]!];
  }
  return pages;
}

/** Opens a machine of `BenchMachine` with the same function as a real one. */
export function openBench(path: string): GuestKernel {
  return openKernel({ memory: [{ path, physical: 0 }] });
}

/** Returns the only map of a machine. */
export function onlyMap(kernel: GuestKernel): GuestMap {
  const warnings: string[] = [];
  const [map] = listMaps(kernel, (sentence) => warnings.push(sentence));
  if (map === undefined || warnings.length > 0) throw new Error(`no map: ${warnings.join("; ")}`);
  return map;
}

/** Returns the value of a read. Throws if the read failed. */
export function readOf<T>(read: Read<T>): T {
  if (!read.ok) throw new Error(read.why.detail);
  return read.value;
}
