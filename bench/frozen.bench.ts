/**
 * Walks in the memory of real frozen machines, compared with the same walks in C: the hash map with the most elements, and the IDR
 * of maps. Uses the x86-64 machines in the lab's cache whose memory is one piece.
 */
import { at, place, ptr, struct, u32 } from "../src/btf/struct.ts";
import { type GuestMap, listMaps } from "../src/guest/bpf/map-info.ts";
import { hashEntries } from "../src/guest/bpf/maps/contents.ts";
import { IdrWalk } from "../src/guest/kernel/idr.ts";
import { type GuestKernel, openKernel } from "../src/guest/kernel/kernel.ts";
import { requireSymbol } from "../src/guest/kernel/symbols.ts";
import { WalkLog } from "../src/guest/kernel/walklog.ts";
import { toBigInt } from "../src/guest/memory/pointer.ts";
import { MapType } from "../src/uapi/names.ts";
import { type Case, inC, type Job, ours, type Prepared } from "./case.ts";
import { frozenMemory } from "./commands.bench.ts";
import { readOf } from "./machine.ts";
import { sumIdr, walkAll } from "./walk.ts";

const HTAB = struct("bpf_htab", { buckets: ptr, n_buckets: u32 });
const BUCKET = struct("bucket", { head: place });
const ELEMENT = struct("htab_elem", { hash_node: place, hash: place, key: place });
const IDR = struct("idr", { head: at(ptr, "idr_rt.xa_head") });
const NODE = struct("xa_node", { shift: place, slots: place });

/** Rows of the lab's matrix. */
const IMAGES = ["sid-5level", "6.12", "6.1"];

const open = (path: string): GuestKernel => openKernel({ memory: [{ path, physical: 0 }] });

const hashes = (kernel: GuestKernel): GuestMap[] =>
  listMaps(kernel, () => {}).filter(({ info }) => info.type === MapType.hash);

/** Returns FILE DIRECT_BASE ROOT LEVELS, the arguments of `open_guest` in bench/reference/guest.h. */
function guestWords(path: string, { memory, symbols }: GuestKernel): readonly (string | number | bigint)[] {
  const base = requireSymbol(symbols, "page_offset_base");
  const { root, mode } = memory.tables;
  return [path, memory.u64(base.hi, base.lo, 0, "page_offset_base"), root, mode.levels.length];
}

function prepareHash(path: string): Prepared {
  const kernel = open(path);
  const { memory, btf } = kernel;
  const counted = hashes(kernel).map((map) => ({
    map,
    count: walkAll(readOf(hashEntries(kernel, map))).items,
  }));
  const { map, count } = counted.reduce((most, each) => (each.count > most.count ? each : most));
  const htab = HTAB.resolve(btf);
  const element = ELEMENT.resolve(btf);
  const { hi, lo } = map.at;
  const buckets = memory.pointer(hi, lo, htab.buckets, "bpf_htab.buckets");
  const bucketCount = memory.u32(hi, lo, htab.n_buckets, "bpf_htab.n_buckets");
  const value = element.key + Math.ceil(map.info.keySize / 8) * 8;
  const layout = [
    BUCKET.resolve(btf).sizeof,
    element.hash_node,
    element.hash,
    element.key,
    value,
    map.info.valueSize,
    count,
  ];
  const words = [...guestWords(path, kernel), toBigInt(buckets.hi, buckets.lo), bucketCount, ...layout];
  return {
    subject: ours("hash", path, map.info.id),
    reference: inC("hash", ...words),
    [Symbol.dispose]: () => {},
  };
}

function prepareIdr(path: string): Prepared {
  const kernel = open(path);
  const symbol = requireSymbol(kernel.symbols, "map_idr");
  const head = toBigInt(symbol.hi, symbol.lo) + BigInt(IDR.resolve(kernel.btf).head);
  const node = NODE.resolve(kernel.btf);
  return {
    subject: ours("idr", path),
    reference: inC("xarray", ...guestWords(path, kernel), head, node.shift, node.slots),
    [Symbol.dispose]: () => {},
  };
}

const hash: Job = (path = "", id = "") => {
  const kernel = open(path);
  const map = hashes(kernel).find(({ info }) => info.id === Number(id))!;
  return () => walkAll(readOf(hashEntries(kernel, map)));
};

const idr: Job = (path = "") => {
  const { memory, btf, symbols } = open(path);
  const symbol = requireSymbol(symbols, "map_idr");
  return () => {
    const walk = new IdrWalk(memory, btf, symbol, "map_idr", new WalkLog());
    let items = 0;
    let checksum = 0;
    for (let count = walk.next(); count > 0; count = walk.next()) {
      items += count;
      checksum = (checksum + sumIdr(walk, count)) | 0;
    }
    return { items, checksum };
  };
};

export const jobs: Record<string, Job> = { hash, idr };

function caseOf(name: string, image: string, prepare: (path: string) => Prepared): Case {
  return {
    name: `frozen ${image}: ${name}`,
    times: 25,
    loops: 100,
    missing: async () => ((await frozenMemory(image)) === undefined ? `no frozen ${image} is kept` : ""),
    prepare: async () => prepare((await frozenMemory(image))!),
  };
}

export const cases: readonly Case[] = IMAGES.flatMap((image) => [
  caseOf("its largest hash", image, prepareHash),
  caseOf("its maps' IDR", image, prepareIdr),
]);
