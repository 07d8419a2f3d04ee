/**
 * Programs, links and BTF objects on a machine built by hand, in states that no kernel produces on demand. The structs have
 * layouts that no kernel has, so that an offset that does not come from BTF is noticed.
 */
import { Btf } from "../../src/btf/btf.ts";
import type { GuestKernel } from "../../src/guest/kernel/kernel.ts";
import { fromBigInt, type Pointer } from "../../src/guest/memory/pointer.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { Synthetic } from "./synthetic.ts";

type Kind = "u8" | "u16" | "u32" | "u64" | "ptr" | "bit" | "bytes8" | "bytes16" | "bytes56" | "slots";
/** Members by path, such as "refcnt.counter", with the offset of the whole path in bytes. */
type Members = Readonly<Record<string, readonly [Kind, number]>>;

const STRUCTS: Readonly<Record<string, readonly [size: number, members: Members]>> = {
  idr: [40, { "idr_rt.xa_head": ["ptr", 16], idr_base: ["u32", 24], idr_next: ["u32", 28] }],
  xa_node: [600, { shift: ["u8", 3], slots: ["slots", 32], marks: ["u64", 544] }],
  bpf_prog_stats: [48, { misses: ["u64", 8], cnt: ["u64", 16], nsecs: ["u64", 32] }],
  bpf_prog: [
    64,
    {
      aux: ["ptr", 0],
      stats: ["ptr", 8],
      tag: ["bytes8", 16],
      len: ["u32", 24],
      jited_len: ["u32", 28],
      type: ["u32", 32],
      pages: ["u16", 40],
      jited: ["bit", 42],
      gpl_compatible: ["bit", 43],
      bpf_func: ["ptr", 48],
      insnsi: ["bytes8", 56],
    },
  ],
  bpf_prog_aux: [
    144,
    {
      used_maps: ["ptr", 0],
      used_map_cnt: ["u32", 8],
      id: ["u32", 12],
      "refcnt.counter": ["u64", 16],
      name: ["bytes16", 24],
      func: ["ptr", 40],
      func_cnt: ["u32", 48],
      func_info_cnt: ["u32", 52],
      func_info: ["ptr", 56],
      btf: ["ptr", 64],
      attach_btf: ["ptr", 72],
      dst_prog: ["ptr", 80],
      user: ["ptr", 88],
      load_time: ["u64", 96],
      verified_insns: ["u32", 104],
      attach_btf_id: ["u32", 108],
      offload: ["ptr", 112],
      offload_requested: ["u8", 120],
      nr_linfo: ["u32", 124],
      linfo: ["ptr", 128],
      jited_linfo: ["ptr", 136],
    },
  ],
  user_struct: [16, { "uid.val": ["u32", 8] }],
  bpf_map: [64, { id: ["u32", 40] }],
  bpf_func_info: [8, { insn_off: ["u32", 0], type_id: ["u32", 4] }],
  btf: [
    96,
    {
      id: ["u32", 4],
      "refcnt.refs.counter": ["u32", 8],
      data_size: ["u32", 12],
      data: ["ptr", 16],
      base_btf: ["ptr", 24],
      name: ["bytes56", 32],
      kernel_btf: ["u8", 90],
    },
  ],
  bpf_link: [
    64,
    {
      prog: ["ptr", 0],
      id: ["u32", 8],
      type: ["u32", 12],
      "refcnt.counter": ["u64", 16],
      attach_type: ["u32", 24],
    },
  ],
  bpf_xdp_link: [96, { dev: ["ptr", 0], link: ["u64", 16] }],
  net_device: [64, { name: ["bytes16", 8], ifindex: ["u32", 32] }],
};

const SIZES: Readonly<Record<Kind, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  u64: 8,
  ptr: 8,
  bit: 1,
  bytes8: 8,
  bytes16: 16,
  bytes56: 56,
  slots: 512,
};

function typesOf(structs: typeof STRUCTS): Btf {
  const w = new BtfWriter();
  const u8 = w.int("unsigned char", 1);
  const u16 = w.int("unsigned short", 2);
  const u32 = w.int("unsigned int", 4);
  const u64 = w.int("unsigned long", 8);
  const ptr = w.pointer(0);
  const bytesOf = (size: number): number => w.array(u8, size, u32);
  const ids: Readonly<Record<Kind, number>> = {
    u8,
    u16,
    u32,
    u64,
    ptr,
    bit: u8,
    bytes8: bytesOf(8),
    bytes16: bytesOf(16),
    bytes56: bytesOf(56),
    slots: w.array(ptr, 64, u32),
  };
  /** "a.b.c" is in nested structs of one member each. */
  const typeOf = (path: readonly string[], kind: Kind): number =>
    path.length === 0 ? ids[kind] : w.struct("", SIZES[kind], [[path[0]!, typeOf(path.slice(1), kind), 0]]);
  for (const [name, [size, members]] of Object.entries(structs)) {
    const list = Object.entries(members).map(([path, [kind, offset]]) => {
      const [first, ...rest] = path.split(".");
      return [first!, typeOf(rest, kind), offset * 8, kind === "bit" ? 1 : 0] as const;
    });
    w.struct(name, size, list);
  }
  return Btf.parse(w.bytes(), { name: "synthetic" });
}

export interface ObjectMachineOptions {
  /** Other layouts for some structs. */
  readonly structs?: typeof STRUCTS;
  readonly cpus?: number;
  /** Whether per-CPU areas can be reached by page tables only, as `unmapPerCpuPage` needs. */
  readonly translated?: boolean;
}

/** Per-CPU areas of 64 KiB each, and the addresses at which their pages are mapped again. */
const AREA_BYTES = 0x1_0000;
const AREA_SPACE = 0xffff_c900_0000_0000n;

export class ObjectMachine {
  readonly machine: Synthetic = new Synthetic({ sizeBytes: 16 << 20 });
  readonly kernel: GuestKernel;
  readonly warnings: string[] = [];
  readonly #structs: typeof STRUCTS;
  readonly #symbols: Map<string, Pointer> = new Map();
  readonly #areas: number[] = [];

  constructor({ structs = {}, cpus = 2, translated = false }: ObjectMachineOptions = {}) {
    const { machine } = this;
    this.#structs = { ...STRUCTS, ...structs };
    for (let cpu = 0; cpu < cpus; cpu++) this.#areas.push(machine.allocate(AREA_BYTES, AREA_BYTES));
    const areas = this.#areas.map((at, cpu) => ({
      cpu,
      offset: fromBigInt(translated ? this.#mapArea(at, cpu) : machine.direct(at)),
    }));
    const possible = areas.map(({ cpu }) => cpu);
    this.kernel = {
      memory: machine.memory(),
      symbols: {
        source: "test",
        count: 0,
        address: (name) => this.#symbols.get(name),
        nearest: () => undefined,
      },
      btf: typesOf(this.#structs),
      cpus: { possible, onlineCount: cpus, areas, missing: [] },
      info: {
        release: "",
        version: "",
        machine: "x86_64",
        possibleCpus: cpus,
        onlineCpus: cpus,
        pageSize: 4096,
        statsEnabled: undefined,
        bootTimeUnixNs: undefined,
        uptimeNs: undefined,
      },
      release: "",
      prstatus: [],
      warnings: [],
      explain: () => [],
      check: () => {},
      limitPages() {},
      [Symbol.dispose]: () => {},
    };
  }

  readonly warn = (sentence: string): void => {
    this.warnings.push(sentence);
  };

  /** Allocates a zeroed struct and returns its physical address. */
  make(name: string, values: Readonly<Record<string, number | bigint | string>> = {}): number {
    const at = this.machine.allocate(this.#structs[name]![0]);
    this.set(name, at, values);
    return at;
  }

  set(name: string, at: number, values: Readonly<Record<string, number | bigint | string>>): void {
    for (const [path, value] of Object.entries(values)) {
      const [kind, offset] = this.#structs[name]![1][path]!;
      if (typeof value === "string") this.machine.write(at + offset, new TextEncoder().encode(value));
      else {
        const bytes = new Uint8Array(8);
        new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
        this.machine.write(at + offset, bytes.subarray(0, SIZES[kind]));
      }
    }
  }

  /** Returns the kernel's address of a place. */
  address(physical: number): bigint {
    return this.machine.direct(physical);
  }

  pointer(physical: number): Pointer {
    return fromBigInt(this.address(physical));
  }

  /** Writes an array of pointers and returns its address. */
  list(addresses: readonly bigint[]): bigint {
    const at = this.machine.allocate(8 * addresses.length);
    addresses.forEach((address, index) => {
      this.machine.writeU64(at + 8 * index, address);
    });
    return this.address(at);
  }

  /** Makes a symbol an IDR with objects (physical addresses) by id; all ids are below 64. */
  idr(symbol: string, objects: Readonly<Record<number, number>>): void {
    const node = this.make("xa_node");
    for (const [id, object] of Object.entries(objects))
      this.machine.writeU64(node + 32 + 8 * Number(id), this.address(object));
    const idr = this.make("idr", { "idr_rt.xa_head": this.address(node) | 2n });
    this.#symbols.set(symbol, this.pointer(idr));
  }

  #mapArea(physical: number, cpu: number): bigint {
    const base = AREA_SPACE + BigInt(cpu * AREA_BYTES);
    for (let at = 0; at < AREA_BYTES; at += 4096) this.machine.map(base + BigInt(at), physical + at);
    return base;
  }

  /** Unmaps the page at a per-CPU address for one CPU. */
  unmapPerCpuPage(cpu: number, at: number): void {
    this.machine.unmap(AREA_SPACE + BigInt(cpu * AREA_BYTES + at), "PTE");
  }

  /** Writes one CPU's counters at a per-CPU address. */
  counters(cpu: number, at: number, values: { cnt?: bigint; nsecs?: bigint; misses?: bigint }): void {
    this.set("bpf_prog_stats", this.#areas[cpu]! + at, values);
  }

  /** Writes a program with the members that every program has; returns the physical addresses of it and of its aux. */
  prog(
    id: number,
    values: Readonly<Record<string, number | bigint | string>> = {},
    auxValues: Readonly<Record<string, number | bigint | string>> = {},
  ): { prog: number; aux: number } {
    const user = this.make("user_struct");
    const aux = this.make("bpf_prog_aux", {
      id,
      "refcnt.counter": 1,
      user: this.address(user),
      ...auxValues,
    });
    const prog = this.make("bpf_prog", { aux: this.address(aux), ...values });
    return { prog, aux };
  }
}
