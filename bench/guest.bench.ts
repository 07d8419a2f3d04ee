/** Translation of addresses, and walks over arrays, per-CPU arrays and IDRs of a frozen machine, compared with C; listings of maps. */
import { join } from "node:path";
import { at, place, ptr, struct } from "../src/btf/struct.ts";
import { listMaps } from "../src/guest/bpf/map-info.ts";
import { readContents } from "../src/guest/bpf/maps/contents.ts";
import { IdrWalk } from "../src/guest/kernel/idr.ts";
import { requireSymbol } from "../src/guest/kernel/symbols.ts";
import { WalkLog } from "../src/guest/kernel/walklog.ts";
import { addressBatch } from "../src/guest/memory/address-batch.ts";
import { MapType } from "../src/uapi/names.ts";
import { type Case, inC, type Job, ours, type Prepared } from "./case.ts";
import { BenchMachine, onlyMap, openBench } from "./machine.ts";
import { sumIdr, walkCopies } from "./walk.ts";

const IDR = struct("idr", { head: at(ptr, "idr_rt.xa_head") });
const NODE = struct("xa_node", { shift: place, slots: place });
const ARRAY = struct("bpf_array", { value: place, pptrs: place });
const MAP = struct("bpf_map", { id: place });

const nothing = (): void => {};

/** A number of pages that is larger than any cache of translations. */
const PAGES = 2 ** 17;
const READS = 300_000;

function prepareTranslation(job: string, pages: number): (folder: string) => Prepared {
  return (folder) => {
    using machine = new BenchMachine(folder, pages * 4096 + 2 ** 23);
    const region = machine.vmalloc(pages * 4096);
    for (let page = 0; page < pages; page++) machine.setU32(region, page * 4096, page * 7);
    machine.finish();
    return {
      subject: ours(job, machine.path, region.hi, region.lo, pages),
      reference: inC("translate", ...machine.guestWords(), region.address, pages, READS),
      [Symbol.dispose]: nothing,
    };
  };
}

/** Reads the word at the start of random pages, each located separately. */
const translate: Job = (path = "", highWord = "", lowWord = "", count = "") => {
  const { memory } = openBench(path);
  const [hi, lo, mask] = [Number(highWord) | 0, Number(lowWord) | 0, Number(count) - 1];
  return () => {
    let seed = 1;
    let checksum = 0;
    for (let n = 0; n < READS; n++) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
      const at = memory.locate(hi, lo, ((seed >>> 8) & mask) << 12, 8);
      if (at < 0) throw new Error(memory.faultSentence("page"));
      checksum = (checksum + memory.view.getInt32(at, true)) | 0;
    }
    return { items: READS, checksum };
  };
};

/** Number of addresses that a walk over a hash table locates together. */
const TOGETHER = 256;

/** Reads the same words. Locates many addresses at a time, as walkers do for scattered objects. */
const translateEach: Job = (path = "", highWord = "", lowWord = "", count = "") => {
  const { memory } = openBench(path);
  const [hi, lo, mask] = [Number(highWord) | 0, Number(lowWord) | 0, Number(count) - 1];
  const { windows } = memory.physical;
  const batch = addressBatch(TOGETHER);
  batch.hi.fill(hi);
  return () => {
    let seed = 1;
    let checksum = 0;
    for (let done = 0; done < READS; done += TOGETHER) {
      const size = Math.min(TOGETHER, READS - done);
      for (let n = 0; n < size; n++) {
        seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
        batch.lo[n] = lo + (((seed >>> 8) & mask) << 12);
      }
      memory.locateEach(batch, size, 0, 8);
      for (let n = 0; n < size; n++) {
        let at = batch.at[n]!;
        let view = windows[batch.index[n]!]!.view;
        if (at < 0) {
          at = memory.expect(hi, batch.lo[n]!, 0, 8, "page");
          view = memory.view;
        }
        checksum = (checksum + view.getInt32(at, true)) | 0;
      }
    }
    return { items: READS, checksum };
  };
};

const ARRAY_COUNT = 1_000_000;
const VALUE_BYTES = 24;

function prepareArray(folder: string): Prepared {
  const size = ARRAY_COUNT * VALUE_BYTES;
  using machine = new BenchMachine(folder, size + 2 ** 23);
  const { value } = ARRAY.resolve(machine.btf);
  const map = machine.vmalloc(value + size);
  const shape = { keySize: 4, valueSize: VALUE_BYTES, maxEntries: ARRAY_COUNT };
  machine.addMap(map, { type: MapType.array, ...shape });
  for (let index = 0; index < ARRAY_COUNT; index++) machine.setU32(map, value + index * VALUE_BYTES, index);
  machine.finish();
  const words = [map.address + BigInt(value), ARRAY_COUNT, VALUE_BYTES, VALUE_BYTES];
  return {
    subject: ours("entries", machine.path),
    reference: inC("array", ...machine.guestWords(), ...words),
    [Symbol.dispose]: nothing,
  };
}

const CPUS = 256;
const PERCPU_COUNT = 1000;

function preparePercpu(folder: string): Prepared {
  using machine = new BenchMachine(folder, 2 ** 23 + CPUS * (PERCPU_COUNT * 8 + 8192), CPUS);
  const { pptrs } = ARRAY.resolve(machine.btf);
  const map = machine.kmalloc(pptrs + PERCPU_COUNT * 8);
  const shape = { keySize: 4, valueSize: 8, maxEntries: PERCPU_COUNT };
  machine.addMap(map, { type: MapType.percpu_array, ...shape });
  const first = 0x4000;
  for (let index = 0; index < PERCPU_COUNT; index++)
    machine.setU64(map, pptrs + index * 8, first + index * 8);
  for (const [cpu, area] of machine.percpu(first, PERCPU_COUNT * 8).entries())
    for (let index = 0; index < PERCPU_COUNT; index++) machine.setU64(area, index * 8, index + cpu);
  machine.finish();
  const offsets = machine.kernel.addressOf("__per_cpu_offset");
  const words = [map.address + BigInt(pptrs), PERCPU_COUNT, 8, offsets, CPUS];
  return {
    subject: ours("entries", machine.path),
    reference: inC("percpu_array", ...machine.guestWords(), ...words),
    [Symbol.dispose]: nothing,
  };
}

/** Reads the first byte of each value of each CPU. */
const entries: Job = (path = "") => {
  const kernel = openBench(path);
  const map = onlyMap(kernel);
  return () => {
    const contents = readContents(kernel, map);
    if (contents.kind !== "entries") throw new Error(`the map has ${contents.kind}`);
    return walkCopies(contents.cursor);
  };
};

const OBJECTS = 100_000;

function prepareIdr(folder: string): Prepared {
  using machine = new BenchMachine(folder, 2 ** 24);
  const first = machine.kernel.machine.directBase;
  const objects = Array.from({ length: OBJECTS }, (_, index) => first + BigInt(index * 4096));
  machine.fillIdr("prog_idr", objects);
  const node = NODE.resolve(machine.btf);
  const head = machine.kernel.addressOf("prog_idr") + BigInt(IDR.resolve(machine.btf).head);
  return {
    subject: ours("idr", machine.path),
    reference: inC("xarray", ...machine.guestWords(), head, node.shift, node.slots),
    [Symbol.dispose]: nothing,
  };
}

const idr: Job = (path = "") => {
  const { memory, btf, symbols } = openBench(path);
  const at = requireSymbol(symbols, "prog_idr");
  return () => {
    const log = new WalkLog();
    let items = 0;
    let checksum = 0;
    const walk = new IdrWalk(memory, btf, at, "prog_idr", log);
    for (let count = walk.next(); count > 0; count = walk.next()) {
      items += count;
      checksum = (checksum + sumIdr(walk, count)) | 0;
    }
    if (!log.complete) throw new Error(log.details.join("; "));
    return { items, checksum };
  };
};

/** Writes the memory of a machine with `count` arrays. Returns the file's path. */
function buildMaps(folder: string, count: number): string {
  using machine = new BenchMachine(folder, 2 ** 23 + count * 8192);
  const size = Math.max(ARRAY.resolve(machine.btf).sizeof, MAP.resolve(machine.btf).sizeof) + 64;
  for (let index = 0; index < count; index++) {
    const map = machine.kmalloc(size);
    machine.addMap(map, { type: MapType.array, keySize: 4, valueSize: 8, maxEntries: 4 });
  }
  machine.finish();
  return machine.path;
}

const list: Job = (path = "") => {
  const kernel = openBench(path);
  return () => {
    const maps = listMaps(kernel, (sentence) => {
      throw new Error(sentence);
    });
    return { items: maps.length, checksum: 0 };
  };
};

function translation(pages: number, job: string, how: string, target?: number): Case {
  return {
    name: `translate, ${pages / 1024} Ki pages at random, ${how}`,
    ...(target === undefined ? {} : { target }),
    times: 15,
    loops: 3,
    prepare: prepareTranslation(job, pages),
  };
}

export const jobs: Record<string, Job> = { translate, translateEach, entries, idr, list };

export const cases: readonly Case[] = [
  ...[2048, PAGES].flatMap((pages) => [
    translation(pages, "translate", "one at a time"),
    translation(pages, "translateEach", `${TOGETHER} at a time`, pages === PAGES ? 2 : undefined),
  ]),
  { name: "array, 1M values of 24 bytes", times: 15, prepare: prepareArray },
  { name: "per-CPU array, 1K values of 8 bytes on 256 CPUs", times: 15, loops: 2, prepare: preparePercpu },
  { name: "IDR, 100K objects", times: 15, loops: 10, prepare: prepareIdr },
  {
    name: "listing 10,000 maps, to listing 100",
    target: 1.3,
    times: 12,
    prepare: (folder) => ({
      subject: ours("list", buildMaps(folder, 10_000)),
      reference: ours("list", buildMaps(join(folder, ".."), 100)),
      [Symbol.dispose]: nothing,
    }),
  },
];
