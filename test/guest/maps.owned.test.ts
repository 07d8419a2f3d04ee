/** Local storage and arenas in states that no kernel produces on demand: reused elements, rings, pages that are mapped and free. */
import { describe, expect, test } from "bun:test";
import { arenaPages, readContents } from "../../src/guest/bpf/maps/contents.ts";
import { MapType } from "../../src/uapi/names.ts";
import {
  ARENA,
  MapMachine,
  RANGE,
  SELEM,
  STORAGE_BUCKET,
  STORAGE_MAP,
  STORAGE_OWNER,
  TASK,
  VM,
} from "./map-machine.ts";

/** Task storage with two buckets. */
class Storage extends MapMachine {
  readonly buckets: number;

  constructor() {
    super({ type: MapType.task_storage, valueSize: 4, maxEntries: 0 });
    this.buckets = this.machine.allocate(2 * STORAGE_BUCKET.size);
    this.pointer(this.at + STORAGE_MAP.buckets, this.buckets);
    this.u32(this.at + STORAGE_MAP.log, 1);
  }

  head(bucket: number, element: number): void {
    this.pointer(this.buckets + bucket * STORAGE_BUCKET.size + STORAGE_BUCKET.first, element + SELEM.node);
  }

  element(value: number, next: number | undefined, map: number = this.at): number {
    const at = this.machine.allocate(SELEM.data + 8);
    const task = this.machine.allocate(32);
    const storage = this.machine.allocate(32);
    this.u32(task + TASK.pid, 1000 + value);
    this.u32(task + TASK.tgid, 1000);
    this.machine.write(task + TASK.comm, Buffer.from("worker"));
    this.pointer(storage + STORAGE_OWNER, task);
    if (next !== undefined) this.pointer(at + SELEM.node, next + SELEM.node);
    this.pointer(at + SELEM.storage, storage);
    this.pointer(at + SELEM.smap, map);
    this.u32(at + SELEM.data, value);
    return at;
  }

  read(): { pids: number[]; skipped: Record<string, number> } {
    const contents = readContents(this.kernel, this.map);
    if (contents.kind !== "records") throw new Error(JSON.stringify(contents));
    const pids = contents.records.map(({ owner }) => (owner?.kind === "task" ? owner.pid : -1));
    return { pids, skipped: Object.fromEntries(contents.end.skipped) };
  }
}

describe("local storage", () => {
  test("each element leads to its task", () => {
    const storage = new Storage();
    storage.head(0, storage.element(1, storage.element(2, undefined)));
    storage.head(1, storage.element(3, undefined));
    expect(storage.read()).toEqual({ pids: [1001, 1002, 1003], skipped: {} });
  });

  test("a list that is a ring gives each element once", () => {
    const storage = new Storage();
    const last = storage.element(3, undefined);
    const first = storage.element(1, storage.element(2, last));
    storage.pointer(last + SELEM.node, first + SELEM.node);
    storage.head(0, first);
    expect(storage.read()).toEqual({ pids: [1001, 1002, 1003], skipped: { cycle: 1 } });
  });

  test("an element of another map ends the list, because it was reused", () => {
    const storage = new Storage();
    storage.head(0, storage.element(1, storage.element(2, storage.element(3, undefined), 64)));
    expect(storage.read()).toEqual({ pids: [1001], skipped: { recycled: 1 } });
  });

  test("2^32-1 as the logarithm of the bucket count is an error", () => {
    const storage = new Storage();
    storage.u32(storage.at + STORAGE_MAP.log, 0xffff_ffff);
    expect(readContents(storage.kernel, storage.map)).toMatchObject({ why: { reason: "corrupt" } });
  });
});

/** An arena of ten pages at user address 0x7f0012345000, mapped at the address that the kernel would use. */
class Arena extends MapMachine {
  static readonly area: bigint = 0xffff_c900_0000_0000n;
  readonly user: bigint = 0x7f00_1234_5000n;

  constructor(maxEntries = 10) {
    super({ type: MapType.arena, keySize: 0, valueSize: 0, maxEntries });
    const vm = this.machine.allocate(32);
    this.machine.writeU64(this.at + ARENA.user, this.user);
    this.pointer(this.at + ARENA.vm, vm);
    this.pointer(vm + VM.addr, Arena.area);
    this.machine.writeU64(vm + VM.size, 2n ** 32n + 65_536n + 4096n);
  }

  /** Maps page `index`, whose first byte is the index. */
  page(index: number): void {
    const page = this.machine.allocate(4096, 4096);
    this.machine.bytes[page] = index;
    const low = (this.user + BigInt(index) * 4096n) & 0xffff_ffffn;
    this.machine.map(Arena.area + 32_768n + low, page);
  }

  /** A node of the tree of free ranges. */
  free(start: number, last: number): number {
    const at = this.machine.allocate(40);
    this.u32(at + RANGE.start, start);
    this.u32(at + RANGE.last, last);
    return at;
  }

  read(): string[] {
    const pages = arenaPages(this.kernel, this.map);
    if (!pages.ok) throw new Error(pages.why.detail);
    return pages.value.pages.map(
      ({ index, userAddress, bytes }) => `${index} 0x${userAddress.toString(16)} ${bytes[0]}`,
    );
  }
}

describe("arena", () => {
  test("the address of a page is the start of the area plus half a guard plus the low half of its user address", () => {
    const arena = new Arena();
    arena.page(0);
    arena.page(7);
    expect(arena.read()).toEqual(["0 0x7f0012345000 0", "7 0x7f001234c000 7"]);
  });

  test("a page that is mapped and free is the stand-in page, not a page of the arena", () => {
    const arena = new Arena();
    for (const index of [2, 3, 4]) arena.page(index);
    const left = arena.free(0, 1);
    const top = arena.free(3, 3);
    arena.pointer(top + RANGE.node + 16, left);
    arena.pointer(top + RANGE.node + 8, arena.free(5, 9));
    arena.pointer(arena.at + ARENA.rt, top);
    expect(arena.read()).toEqual(["2 0x7f0012347000 2", "4 0x7f0012349000 4"]);
  });

  test("the walk of a circular tree of free ranges ends", () => {
    const arena = new Arena();
    arena.page(1);
    const top = arena.free(0, 0);
    arena.pointer(top + RANGE.node + 8, top);
    arena.pointer(top + RANGE.node + 16, top);
    arena.pointer(arena.at + ARENA.rt, top);
    expect(arena.read()).toEqual(["1 0x7f0012346000 1"]);
  });

  test("more than 4 GiB are cut, and reported", () => {
    const arena = new Arena(2 ** 32 - 1);
    arena.page(1);
    const pages = arenaPages(arena.kernel, arena.map);
    expect(pages).toMatchObject({ ok: true, value: { spanBytes: 2 ** 32, spanCapped: true } });
  });

  test("an area whose size is not an arena's is not read", () => {
    const arena = new Arena();
    const { machine } = arena;
    const vm = Number(machine.readU64(arena.at + ARENA.vm) - machine.directBase);
    machine.writeU64(vm + VM.size, 4096n);
    expect(arenaPages(arena.kernel, arena.map)).toMatchObject({ why: { reason: "corrupt" } });
  });
});
