/** Following pointers into arenas and into the kernel. */
import { describe, expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { openGuest } from "../../src/guest/guest.ts";
import { ArenaSpace } from "../../src/report/arena-space.ts";
import { Follower } from "../../src/report/follow.ts";
import { plain } from "../../src/report/typed-json.ts";
import { type BpfState, found, unreadable } from "../../src/state.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { labImages } from "../guest/images.ts";
import { elementsInfo } from "./support/elements.ts";

const BASE = 0x1000_0000_0000n;
const PAGE = 4096;

/** Types `struct node { u64 number; struct node *next, *other; }`, a pointer to it, and `tagged` as `__arena` in a kernel's BTF. */
function nodeTypes(): { btf: Btf; node: number; pointer: number; tagged: number } {
  const writer = new BtfWriter();
  const u64 = writer.int("u64", 8);
  const node = writer.nextId + 1;
  const pointer = writer.pointer(node);
  writer.struct("node", 24, [
    ["number", u64, 0],
    ["next", pointer, 64],
    ["other", pointer, 128],
  ]);
  const tagged = writer.pointer(writer.raw(BTF_KIND.TYPE_TAG, "arena", node));
  // The type tag refers to the struct, and the pointer to the type tag.
  return { btf: Btf.parse(writer.bytes()), node, pointer, tagged };
}
const { btf, pointer, tagged } = nodeTypes();

/** Returns an arena whose pages have nodes at these offsets. */
function arenaOf(nodes: Readonly<Record<number, readonly [number, bigint, bigint]>>): ArenaSpace {
  const pages = new Map<number, Uint8Array>();
  const page = (index: number): Uint8Array => {
    const bytes = pages.get(index) ?? new Uint8Array(PAGE);
    pages.set(index, bytes);
    return bytes;
  };
  for (const [at, words] of Object.entries(nodes)) {
    const bytes = new Uint8Array(BigUint64Array.from(words.map(BigInt)).buffer);
    bytes.forEach((byte, n) => {
      const offset = Number(at) + n;
      page(Math.floor(offset / PAGE))[offset % PAGE] = byte;
    });
  }
  const space = ArenaSpace.of(elementsInfo({ type: 33, mapExtra: BASE }), {
    pageSize: PAGE,
    spanBytes: 100 * PAGE,
    spanCapped: false,
    truncated: false,
    pages: [...pages].map(([index, bytes]) => ({ index, bytes, userAddress: BASE + BigInt(index * PAGE) })),
  });
  if (space === undefined) throw new Error("an arena with pages");
  return space;
}

const at = (offset: number): bigint => BASE + BigInt(offset);
const bytesOf = (address: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(address).buffer);
const noKernel = { kernelBtf: () => unreadable("unsupported", "") } as unknown as BpfState;

function numbers(arena: ArenaSpace, head: bigint, depth: number, id = pointer): unknown[] {
  const { targets } = new Follower(noKernel, [arena], { depth }).follow({ btf, id }, bytesOf(head));
  return targets.map(({ type, bytes }) => (plain(type, bytes) as { number: number }).number);
}

describe("pointers into an arena", () => {
  const list = arenaOf({ 16: [1, at(0x1000), 0n], 4096: [2, at(0x20ff0), 0n], 135152: [3, 0n, 0n] });

  test("of a list give its nodes in order, up to the depth, even a node that crosses pages", () => {
    expect(numbers(arenaOf({ 16: [1, at(0x1ff8), 0n], 8184: [2, 0n, 0n] }), at(0x10), 9)).toEqual([1, 2]);
    expect(numbers(list, at(0x10), 1)).toEqual([1]);
    expect(numbers(list, at(0x10), 2)).toEqual([1, 2]);
  });

  test("of a ring give each node once", () => {
    const ring = arenaOf({ 16: [1, at(0x40), at(0x10)], 64: [2, at(0x10), at(0x40)] });
    expect(numbers(ring, at(0x10), 1000)).toEqual([1, 2]);
  });

  test("of a tree give the children after their node, each at its shortest distance", () => {
    const tree = arenaOf({
      16: [1, at(0x100), at(0x200)],
      256: [2, at(0x300), 0n],
      512: [3, at(0x400), at(0x300)],
      768: [4, 0n, 0n],
      1024: [5, 0n, 0n],
    });
    expect(numbers(tree, at(0x10), 9)).toEqual([1, 2, 4, 3, 5]);
  });

  test("to absent pages, outside the arena or NULL are not followed; unaligned ones are read as they are", () => {
    for (const address of [0n, at(50 * PAGE), at(100 * PAGE), at(-8), 8n, 2n ** 64n - 8n])
      expect(numbers(list, address, 3)).toEqual([]);
    expect(numbers(list, at(0x18), 1)).toEqual([Number(at(0x1000))]);
  });

  test("of 32 bits are kernel-side addresses if the type is tagged, else they are not followed", () => {
    expect(numbers(list, 0x10n, 1)).toEqual([]);
    expect(numbers(list, 0x10n, 1, tagged)).toEqual([1]);
  });

  test("of an endless list stop at 1,000 objects, and say so", () => {
    const nodes: Record<number, readonly [number, bigint, bigint]> = {};
    for (let n = 0; n < 2000; n++) nodes[n * 32] = [n, at((n + 1) * 32), 0n];
    const follower = new Follower(noKernel, [arenaOf(nodes)], { depth: 1e9 });
    const { targets, cut } = follower.follow({ btf, id: pointer }, bytesOf(at(0)));
    expect([targets.length, cut]).toEqual([1000, true]);
  });
});

describe("pointers into the kernel", () => {
  test("are read if the data path can, with the kernel's own type of that name", () => {
    const writer = new BtfWriter();
    const u64 = writer.int("u64", 8);
    writer.struct("node", 16, [
      ["added", u64, 0],
      ["number", u64, 64],
    ]);
    const kernel = Btf.parse(writer.bytes());
    const state = {
      kernelBtf: () => found(kernel),
      readKernel: (address: bigint, length: number) =>
        address === 0xffff_8880_0000_1000n
          ? found(new Uint8Array(BigUint64Array.of(7n, 9n).buffer).subarray(0, length))
          : unreadable("not-present", "no page"),
    } as unknown as BpfState;
    const follower = new Follower(state, [], { depth: 3 });
    const { targets } = follower.follow({ btf, id: pointer }, bytesOf(0xffff_8880_0000_1000n));
    expect(targets.map((target) => plain(target.type, target.bytes))).toEqual([{ added: 7, number: 9 }]);
    expect(follower.follow({ btf, id: pointer }, bytesOf(0xffff_8880_0000_2000n)).targets).toEqual([]);
    expect(follower.follow({ btf, id: pointer }, bytesOf(0x1000n)).targets).toEqual([]);
  });
});

const images = (await labImages()).filter((image) => image.answer("kallsyms") !== undefined);
test.skipIf(images.length === 0).each(images)(
  "init_task of $name is the idle task, and its own parent",
  (image) => {
    const line = /^([0-9a-f]{16}) \S init_task$/m.exec(image.answer("kallsyms") ?? "");
    if (line === null) throw new Error("its kallsyms names no init_task");
    const address = BigInt(`0x${line[1]}`);
    using guest = openGuest({ memory: image.memory });
    const kernel = guest.kernelBtf();
    if (!kernel.ok) throw new Error(kernel.why.detail);
    const task = kernel.value.find("task_struct", BTF_KIND.STRUCT);
    // Any pointer to a task works; task_struct has one to its parent.
    const parent = kernel.value.member(task ?? 0, "real_parent");
    if (parent === undefined) throw new Error("task_struct.real_parent");
    const follower = new Follower(guest, [], { depth: 2 });
    const { targets } = follower.follow({ btf: kernel.value, id: parent.typeId }, bytesOf(address));
    const [first] = targets;
    expect(first?.typeText).toBe("struct task_struct");
    expect(plain(first!.type, first!.bytes)).toMatchObject({ comm: "swapper/0", pid: 0, tgid: 0 });
    const tasks = targets.filter(
      (target) => target.address === address && target.typeText === "struct task_struct",
    );
    expect(tasks.length).toBe(1);
    expect(targets.length).toBeGreaterThan(3);
  },
);
