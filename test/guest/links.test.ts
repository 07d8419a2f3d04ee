/** Links in states that no kernel produces on demand. */
import { expect, test } from "bun:test";
import { listLinks } from "../../src/guest/bpf/links.ts";
import type { LinkInfo } from "../../src/state.ts";
import { LinkType } from "../../src/uapi/names.ts";
import { ObjectMachine } from "./objects.ts";

/** Offset of `bpf_xdp_link.link`. */
const LINK_IN_XDP = 16;

function xdpLink(
  machine: ObjectMachine,
  id: number,
  dev: bigint,
  values: Record<string, number | bigint>,
): number {
  const outer = machine.make("bpf_xdp_link", { dev });
  const link = outer + LINK_IN_XDP;
  machine.set("bpf_link", link, { id, type: LinkType.xdp, "refcnt.counter": 1, ...values });
  return link;
}

const list = (machine: ObjectMachine, links: Record<number, number>): readonly LinkInfo[] => {
  machine.idr("link_idr", links);
  return listLinks(machine.kernel, machine.warn, () => machine.kernel);
};

test("a link is at any offset within the struct of its type", () => {
  const machine = new ObjectMachine();
  const device = machine.make("net_device", { ifindex: 7, name: "veth0" });
  const { prog } = machine.prog(21);
  const link = xdpLink(machine, 3, machine.address(device), { prog: machine.address(prog) });
  expect(list(machine, { 3: link })).toEqual([
    { id: 3, type: LinkType.xdp, progId: 21, details: { devname: "veth0", ifindex: 7 } },
  ]);
  expect(machine.warnings).toEqual([]);
});

test("a link whose device was removed is detached", () => {
  const machine = new ObjectMachine();
  const [link] = list(machine, { 3: xdpLink(machine, 3, 0n, {}) });
  expect(link?.details).toEqual({ devname: "(detached)", ifindex: 0 });
});

test("an unreadable part of a link has a reason, and the link stays in the list", () => {
  const machine = new ObjectMachine();
  const link = xdpLink(machine, 3, 0xffff_8880_7000_0000n, {});
  expect(list(machine, { 3: link })).toEqual([
    {
      id: 3,
      type: LinkType.xdp,
      progId: 0,
      details: { unreadable: expect.stringMatching(/^read bpf_xdp_link\.dev->name: 0xffff888070000008 /) },
    },
  ]);
});

test("a link whose struct is not in the BTF has a reason, and a link of an unknown type has no details", () => {
  const machine = new ObjectMachine();
  const links = [LinkType.netfilter, 77].map((type, index) =>
    machine.make("bpf_link", { id: index + 1, type, "refcnt.counter": 1 }),
  );
  const [netfilter, newer] = list(machine, { 1: links[0]!, 2: links[1]! });
  expect(netfilter?.details["unreadable"]).toContain("has no such struct");
  expect(newer).toEqual({ id: 2, type: 77, progId: 0, details: {} });
});

test("links that are not settled, being freed, or reused are left out and counted", () => {
  const machine = new ObjectMachine();
  const links = {
    1: xdpLink(machine, 1, 0n, {}),
    2: xdpLink(machine, 0, 0n, {}),
    3: xdpLink(machine, 3, 0n, { "refcnt.counter": 0 }),
    4: xdpLink(machine, 9, 0n, {}),
  };
  expect(list(machine, links).map(({ id }) => id)).toEqual([1]);
  expect(machine.warnings).toEqual([
    "link_idr: not everything could be read: 1 × not yet settled, 1 × being freed, 1 × its id member differs: " +
      "link 2: not yet settled; link 3: being freed; link 4: its id member differs",
  ]);
});
