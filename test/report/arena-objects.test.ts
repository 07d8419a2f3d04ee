/** Global variables in an arena. */
import { expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { ArenaObjects } from "../../src/report/arena-objects.ts";
import { ArenaSpace } from "../../src/report/arena-space.ts";
import { arenaObjectText } from "../../src/report/element-text.ts";
import { type BpfState, found, unreadable } from "../../src/state.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { elementsInfo } from "./support/elements.ts";

const BASE = 0x1000_0000_0000n;

/** `struct node *head = &first; struct node first = { .number = 5 };` */
function globals(): { btf: Btf; bytes: Uint8Array } {
  const writer = new BtfWriter();
  const u64 = writer.int("u64", 8);
  const node = writer.struct("node", 8, [["number", u64, 0]]);
  const head = writer.raw(BTF_KIND.VAR, "head", writer.pointer(node), [1]);
  const first = writer.raw(BTF_KIND.VAR, "first", node, [1]);
  writer.raw(BTF_KIND.DATASEC, ".addr_space.1", 16, [head, 0, 8, first, 8, 8], 2);
  return {
    btf: Btf.parse(writer.bytes()),
    bytes: new Uint8Array(BigUint64Array.of(BASE + 8n, 5n).buffer),
  };
}

test("a variable to which an earlier variable points is a variable, and its own name is first", () => {
  const { btf, bytes } = globals();
  const page = new Uint8Array(4096);
  page.set(bytes);
  const map = elementsInfo({ type: 33, mapExtra: BASE });
  const space = ArenaSpace.of(map, {
    pageSize: 4096,
    spanBytes: 100 * 4096,
    spanCapped: false,
    truncated: false,
    pages: [{ index: 0, bytes: page, userAddress: BASE }],
  });
  const state = {
    progs: () => [{ mapIds: [map.id], btfId: 3 }],
    maps: () => [map],
    btf: () => found(btf),
    kernelBtf: () => unreadable("unsupported", ""),
  } as unknown as BpfState;
  const objects = new ArenaObjects(state, space!, 1).on(0);
  expect(objects.map(({ names, isVariable }) => [names, isVariable])).toEqual([
    [["head"], true],
    [["first", "*head"], true],
  ]);
  expect(arenaObjectText(objects[1]!, undefined)).toContain("struct node first, *head =");
});
