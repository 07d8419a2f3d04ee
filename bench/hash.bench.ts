/** Walks over hash tables of a frozen machine, compared with the same walk in C. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { place, ptr, struct, u32 } from "../src/btf/struct.ts";
import { hashEntries, percpuHashEntries } from "../src/guest/bpf/maps/contents.ts";
import { MapType } from "../src/uapi/names.ts";
import { type Case, inC, type Job, ours, type Prepared } from "./case.ts";
import { BenchMachine, onlyMap, openBench, type Region, readOf } from "./machine.ts";
import { walkAll, walkCopies } from "./walk.ts";

const HTAB = struct("bpf_htab", { buckets: ptr, elems: ptr, n_buckets: u32 });
const BUCKET = struct("bucket", { head: place });
const ELEMENT = struct("htab_elem", { hash_node: place, hash: u32, key: place });
const KEY_BYTES = 8;

export interface Shape {
  readonly count: number;
  /** Preallocated elements are in one vmalloc area; others are in slabs, in the direct map. */
  readonly preallocated: boolean;
  /** Elements per bucket, on average. */
  readonly perBucket: number;
  readonly valueSize: number;
  /** Number of CPUs of a per-CPU hash, in which an element has a pointer to its values. If undefined, the hash is not per-CPU. */
  readonly cpus?: number;
}

/** Per-CPU address of the first element's values. */
const FIRST_COPY = 0x4000;

interface Built {
  readonly path: string;
  /** Arguments of the reference. */
  readonly words: readonly (string | number | bigint)[];
}

function build(folder: string, { count, preallocated, perBucket, valueSize, cpus = 0 }: Shape): Built {
  const bucketCount = 2 ** Math.ceil(Math.log2(count / perBucket));
  const isPerCpu = cpus > 0;
  const inlineBytes = isPerCpu ? 8 : valueSize;
  const sizes =
    16 * bucketCount + count * (64 + KEY_BYTES + inlineBytes) + cpus * (count * valueSize + 16_384);
  using machine = new BenchMachine(
    folder,
    sizes + Math.ceil(sizes / 400) + 2 ** 22,
    isPerCpu ? cpus : undefined,
  );
  const { btf, view } = machine;
  const htab = HTAB.resolve(btf);
  const bucket = BUCKET.resolve(btf);
  const element = ELEMENT.resolve(btf);
  const value = element.key + KEY_BYTES;
  const stride = Math.ceil((value + inlineBytes) / 8) * 8;
  const map = machine.kmalloc(htab.sizeof);
  const type = isPerCpu ? MapType.percpu_hash : MapType.hash;
  machine.addMap(map, { type, keySize: KEY_BYTES, valueSize, maxEntries: count });
  const area = (size: number): Region => (size > 2 ** 15 ? machine.vmalloc(size) : machine.kmalloc(size));
  const buckets = area(bucketCount * bucket.sizeof);
  machine.setPointer(map, htab.buckets, buckets, 0);
  machine.setU32(map, htab.n_buckets, bucketCount);
  for (let index = 0; index < bucketCount; index++)
    machine.setU64(buckets, index * bucket.sizeof, 2 * index + 1);
  const elements = preallocated ? area(count * stride) : machine.kmalloc(count * stride);
  if (preallocated) machine.setPointer(map, htab.elems, elements, 0);
  for (let index = 0; index < count; index++) {
    const hash = Math.imul(index + 1, 0x9e37_79b1) ^ ((index * 0x85eb_ca6b) >>> 13);
    const head = buckets.physical((hash & (bucketCount - 1)) * bucket.sizeof);
    const at = index * stride;
    const next = elements.physical(at + element.hash_node);
    view.setUint32(next, view.getUint32(head, true), true);
    const nextHigh = elements.physical(at + element.hash_node + 4);
    view.setUint32(nextHigh, view.getUint32(head + 4, true), true);
    machine.setPointer(buckets, (hash & (bucketCount - 1)) * bucket.sizeof, elements, at);
    machine.setU32(elements, at + element.hash, hash | 0);
    machine.setU32(elements, at + element.key, index);
    if (isPerCpu) machine.setU64(elements, at + value, FIRST_COPY + index * valueSize);
    else view.setUint8(elements.physical(at + value + valueSize - 1), index % 251);
  }
  for (const [cpu, area] of isPerCpu ? machine.percpu(FIRST_COPY, count * valueSize).entries() : [])
    for (let index = 0; index < count; index++) machine.setU32(area, index * valueSize, index + cpu);
  machine.finish();
  const perCpu = [value, valueSize, machine.kernel.addressOf("__per_cpu_offset"), cpus];
  const plain = [element.hash, element.key, value, valueSize, count];
  const layout = [bucket.sizeof, element.hash_node, ...(isPerCpu ? perCpu : plain)];
  return { path: machine.path, words: [...machine.guestWords(), buckets.address, bucketCount, ...layout] };
}

/** Writes the memory of a machine whose only map, with id 1, is a hash of this shape. Returns the file's path. */
export const buildHash = (folder: string, shape: Shape): string => build(folder, shape).path;

function prepare(folder: string, shape: Shape): Prepared {
  const { path, words } = build(folder, shape);
  const [job, program] = shape.cpus === undefined ? ["walk", "hash"] : ["copies", "percpu_hash"];
  return { subject: ours(job, path), reference: inC(program, ...words), [Symbol.dispose]: () => {} };
}

const walk: Job = (path = "") => {
  const kernel = openBench(path);
  const map = onlyMap(kernel);
  return () => {
    const cursor = readOf(hashEntries(kernel, map));
    const work = walkAll(cursor);
    if (!cursor.end.complete) throw new Error(`not everything was read: ${cursor.end.stopped}`);
    return work;
  };
};

const copies: Job = (path = "") => {
  const kernel = openBench(path);
  const map = onlyMap(kernel);
  return () => walkCopies(readOf(percpuHashEntries(kernel, map)));
};

export const jobs: Record<string, Job> = { walk, copies };

function perCpuCase(cpus: number): Case {
  const shape = { count: 1000, preallocated: true, perBucket: 1, valueSize: 8, cpus };
  return {
    name: `per-CPU hash, 1K values of 8 bytes on ${cpus} CPUs`,
    times: 15,
    loops: 2,
    prepare: (folder) => prepare(folder, shape),
  };
}

function caseOf(name: string, shape: Shape, target?: number): Case {
  const { count, preallocated, perBucket, valueSize } = shape;
  const kind = preallocated ? "preallocated" : "from slabs";
  return {
    name: `hash ${name}, ${kind}, ${perBucket} a bucket, values of ${valueSize}`,
    ...(target === undefined ? {} : { target }),
    times: count >= 10_000_000 ? 5 : count >= 1_000_000 ? 9 : 40,
    loops: Math.max(1, Math.floor(300_000 / count)),
    prepare: (folder) => prepare(folder, shape),
  };
}

/** Compares the time per element of a table of 10M elements with that of a table of 1M. */
function growth(preallocated: boolean): Case {
  const shape = { preallocated, perBucket: 1, valueSize: 24 };
  return {
    name: `hash 10M, to 1M, ${preallocated ? "preallocated" : "from slabs"}`,
    target: 1.2,
    times: 5,
    prepare: (folder) => {
      const small = join(folder, "small");
      mkdirSync(small);
      return {
        subject: ours("walk", buildHash(folder, { ...shape, count: 10_000_000 })),
        reference: ours("walk", buildHash(small, { ...shape, count: 1_000_000 })),
        [Symbol.dispose]: () => {},
      };
    },
  };
}

const MILLION = [true, false].flatMap((preallocated) => [
  ...[1, 8, 64].map((perBucket) => ({ preallocated, perBucket, valueSize: 24 })),
  ...[8, 256].map((valueSize) => ({ preallocated, perBucket: 1, valueSize })),
]);

export const cases: readonly Case[] = [
  ...[true, false].flatMap((preallocated) => [
    caseOf("1K", { count: 1000, preallocated, perBucket: 1, valueSize: 24 }),
    caseOf("100K", { count: 100_000, preallocated, perBucket: 1, valueSize: 24 }),
  ]),
  ...MILLION.map((shape) => caseOf("1M", { count: 1_000_000, ...shape }, 1.7)),
  ...[true, false].map((preallocated) =>
    caseOf("10M", { count: 10_000_000, preallocated, perBucket: 1, valueSize: 24 }, 1.7),
  ),
  ...[true, false].map(growth),
  perCpuCase(256),
];
