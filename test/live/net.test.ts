/** Programs on devices of a separate network namespace, compared with bpftool. */
import { afterAll, describe, expect, test } from "bun:test";
import { KtstrError, type SyscallError } from "../../src/errors.ts";
import { queryNetworks } from "../../src/live/networks.ts";
import {
  linkRequest,
  messagesOf,
  RTM_GETQDISC,
  RTM_GETTCLASS,
  RTM_GETTFILTER,
  tcRequest,
} from "../../src/uapi/netlink.ts";
import { CLI, kernelSkipReason, parseExact, spawn } from "./bpftool.ts";
import { FakeKernel } from "./fake.ts";
import { Kit } from "./kit.ts";
import { loadProg, returns } from "./kit-progs.ts";
import { attribute, message, nested, u32 } from "./netlink-bytes.ts";

const missing = ["ip", "tc", "unshare"].filter((name) => Bun.which(name) === null);
const why = kernelSkipReason() || (missing.length === 0 ? "" : `not installed: ${missing.join(", ")}`);
if (why !== "") console.log(`(skip) net show: ${why}`);

/** bpftool's JSON is not valid if there is a flow dissector. */
const withValidJson = (json: string): string =>
  json.replace(/"flow_dissector":\["id":(\d+)\]/, '"flow_dissector":[{"id":$1}]');

describe.skipIf(why !== "")("net show", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());

  test("is equal to bpftool's, text and JSON", () => {
    const xdp = loadProg(kit, { type: "xdp", name: "t_xdp", code: returns(2) });
    const first = loadProg(kit, { type: "sched_cls", name: "t_first", code: returns(-1) });
    const second = loadProg(kit, { type: "sched_cls", name: "t_second", code: returns(-1) });
    const dissector = loadProg(kit, { type: "flow_dissector", code: returns(129) });
    const pins = [first, second, dissector].map(({ id }) => `/sys/fs/bpf/ktstr-net-${process.pid}-${id}`);
    const ktstr = `${process.execPath} ${CLI}`;
    const script = `
set -e
mount -t bpf bpf /sys/fs/bpf
bpftool prog pin id ${first.id} ${pins[0]}
bpftool prog pin id ${second.id} ${pins[1]}
bpftool prog pin id ${dissector.id} ${pins[2]}
ip link set lo up
ip link add t0 type veth peer name t1
bpftool net attach xdpgeneric id ${xdp.id} dev lo
bpftool net attach xdpdrv id ${xdp.id} dev t0
bpftool net attach tcx_ingress id ${first.id} dev lo
bpftool net attach tcx_ingress id ${second.id} dev lo prepend
bpftool net attach tcx_egress id ${second.id} dev t1
bpftool prog attach pinned ${pins[2]} flow_dissector
tc qdisc add dev lo clsact
tc filter add dev lo ingress prio 9 bpf da object-pinned ${pins[0]}
tc filter add dev lo ingress prio 3 bpf da object-pinned ${pins[1]}
tc filter add dev lo egress chain 5 bpf da object-pinned ${pins[1]}
tc filter add dev lo egress bpf bytecode '1,6 0 0 4294967295,'
tc qdisc add dev t0 ingress
tc filter add dev t0 ingress bpf da object-pinned ${pins[0]}
tc qdisc add dev t1 root handle 7: htb
tc class add dev t1 parent 7: classid 7:5 htb rate 1mbit
tc filter add dev t1 parent 7: bpf da object-pinned ${pins[0]}
tc filter add dev t1 parent 7:5 bpf da object-pinned ${pins[1]}
for words in "net show" "net show dev t0" "net list d lo"; do
  for flags in "" -j; do
    echo "== theirs"; bpftool $flags $words
    echo "== ours"; ${ktstr} $flags $words
  done
done
echo "== inode"; stat -L -c %i /proc/self/ns/net
${ktstr} net show dev nobody 2>&1 || echo "status $?"
bpftool prog detach pinned ${pins[2]} flow_dissector
`;
    const { status, out, err } = spawn(["unshare", "-n", "-m", "sh", "-c", script]);
    expect([status, err]).toEqual([0, ""]);
    const [listings = "", rest = ""] = out.split("== inode\n");
    const [, ...parts] = listings.split(/== (?:theirs|ours)\n/);
    expect(parts.length).toBe(12);
    const inode = Number(/^\d+/.exec(rest)?.[0]);
    for (let index = 0; index < parts.length; index += 2) {
      const [theirs, mine] = [parts[index]!, parts[index + 1]!];
      if (!theirs.startsWith("[")) expect(mine).toBe(theirs);
      else expect(mine).toBe(`${withValidJson(theirs).trim().replace(/\}\]$/, `,"netns_ino":${inode}}]`)}\n`);
    }
    const [all] = parseExact(withValidJson(parts[2]!)) as {
      xdp: unknown[];
      tc: unknown[];
      flow_dissector: unknown[];
    }[];
    expect([all?.xdp.length, all?.tc.length, all?.flow_dissector.length]).toEqual([2, 13, 1]);
    expect(rest).toContain('there is no network device "nobody". This network namespace has lo, t1, t0');
    expect(rest).toContain("status 1");
  });
});

const NAME = attribute(3, Buffer.from("eth0\0"));

test("programs of several XDP modes, and of actions of filters, are found", () => {
  const kernel = new FakeKernel();
  kernel.fail("BPF_PROG_QUERY", 22);
  const xdp = nested(43, attribute(2, Uint8Array.of(4)), attribute(5, u32(50)), attribute(6, u32(60)));
  kernel.routes.set(hex(linkRequest()), [message(16, 7, 0, NAME, xdp), message(3, 0, 0)]);
  for (const type of [RTM_GETTCLASS, RTM_GETQDISC])
    kernel.routes.set(hex(tcRequest(type, 7)), [message(3, 0, 0)]);
  const action = (kind: string, name: string, id: number): Uint8Array =>
    Buffer.concat([
      attribute(1, Buffer.from(`${kind}\0`)),
      nested(2, attribute(6, Buffer.from(`${name}\0`)), attribute(9, u32(id))),
    ]);
  const options = nested(
    2,
    nested(
      1,
      nested(2, action("bpf", "two", 72)),
      nested(1, action("bpf", "one", 71)),
      nested(3, action("gact", "", 0)),
    ),
    attribute(7, Buffer.from("named\0")),
    attribute(11, u32(70)),
  );
  const filter = message(44, 7, 1, attribute(1, Buffer.from("bpf\0")), options);
  const head = message(44, 7, 0, attribute(1, Buffer.from("bpf\0")));
  for (const parent of [0xffff_ffff, 0xffff_fff2, 0xffff_fff3])
    kernel.routes.set(hex(tcRequest(RTM_GETTFILTER, 7, parent)), [
      parent === 0xffff_fff2 ? Buffer.concat([head, filter]) : new Uint8Array(),
      message(3, 0, 0),
    ]);
  const eth0 = { devname: Buffer.from("eth0"), ifindex: 7 };
  const warnings: string[] = [];
  expect(queryNetworks(kernel, "eth0", (sentence) => warnings.push(sentence))).toEqual([
    {
      netnsIno: undefined,
      xdp: [
        {
          ...eth0,
          progs: [
            { mode: "generic", progId: 60, hasLink: undefined },
            { mode: "driver", progId: 50, hasLink: undefined },
          ],
        },
      ],
      tc: [
        {
          ...eth0,
          kind: "clsact/ingress",
          name: Buffer.from("named"),
          progId: 70,
          actions: [
            { name: Buffer.from("one"), progId: 71 },
            { name: Buffer.from("two"), progId: 72 },
          ],
        },
      ],
      flowDissector: undefined,
    },
  ]);
  // The model has no /proc.
  expect(warnings).toEqual([expect.stringContaining("/proc/self/ns/net, which does not exist")]);
  expect(() => queryNetworks(kernel, "eth", () => {})).toThrow(KtstrError);
});

test("without CAP_NET_ADMIN the error names the missing privilege", () => {
  const kernel = new FakeKernel();
  kernel.routes.set(hex(linkRequest()), [message(16, 7, 0, NAME), message(3, 0, 0)]);
  kernel.fail("BPF_PROG_QUERY", 1);
  try {
    queryNetworks(kernel, undefined, () => {});
    expect.unreachable();
  } catch (error) {
    expect((error as SyscallError).hint).toContain("CAP_NET_ADMIN");
  }
});

test("a dump whose last message has an error is an error", () => {
  const done = (payload: Uint8Array): Uint8Array => {
    const whole = Buffer.concat([new Uint8Array(16), payload]);
    whole.writeUInt32LE(whole.length, 0);
    whole.writeUInt16LE(3, 4);
    return whole;
  };
  const endOf = (payload: Uint8Array): number | undefined =>
    messagesOf(Buffer.concat([message(16, 7, 0, NAME), done(payload)]), linkRequest()).end;
  expect([endOf(u32(-12)), endOf(u32(0)), endOf(new Uint8Array())]).toEqual([-12, 0, 0]);
  const kernel = new FakeKernel();
  kernel.routes.set(hex(linkRequest()), [message(16, 7, 0, NAME), done(u32(-12))]);
  expect(() => queryNetworks(kernel, undefined, () => {})).toThrow("rtnetlink the network devices: ENOMEM");
});

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
