/** Offloaded objects on a fake kernel, because Debian's kernels have no card for programs (CONFIG_NETDEVSIM is off). */
import { expect, test } from "bun:test";
import { openLive } from "../../src/live/live.ts";
import { mapJson, progJson } from "../../src/report/bpftool.ts";
import { mapTitle, progText } from "../../src/report/text.ts";
import { FakeKernel } from "./fake.ts";

/** Numbers for struct bpf_map_info and struct bpf_prog_info. */
const ON_CARD = { ifindex: 7, netns_dev: 4, netns_ino: 4_026_531_840 };
const DEVICE = { ifindex: 7, ns_dev: 4n, ns_inode: 4_026_531_840n };

function kernelWithCard(): FakeKernel {
  const kernel = new FakeKernel();
  kernel.addMap({ id: 1, name: "on_card", info: ON_CARD });
  kernel.addMap({ id: 2, name: "in_kernel" });
  kernel.progs.set(3, { id: 3, info: { type: 6, ...ON_CARD } });
  kernel.devices.set(7, new TextEncoder().encode("eni1np1\0\0\0"));
  return kernel;
}

test("a card in the network namespace of ktstr has its name", () => {
  const kernel = kernelWithCard();
  kernel.namespace = { dev: 4n, ino: 4_026_531_840n };
  using live = openLive({ sys: kernel });
  const [onCard, inKernel] = live.maps();
  const [prog] = live.progs();
  expect(mapJson(onCard!)["dev"]).toEqual({ ...DEVICE, ifname: "eni1np1" });
  expect(mapJson(inKernel!)["dev"]).toBeUndefined();
  expect(progJson(prog!, live.kernel())["dev"]).toEqual({ ...DEVICE, ifname: "eni1np1" });
  expect(mapTitle(onCard!)).toEndWith("flags 0x0  offloaded_to eni1np1");
  expect(mapTitle(inKernel!)).toEndWith("flags 0x0");
});

test("the same index in another namespace is another card, and has no name", () => {
  for (const namespace of [{ dev: 4n, ino: 1n }, { dev: 5n, ino: 4_026_531_840n }, undefined]) {
    const kernel = kernelWithCard();
    kernel.namespace = namespace;
    using live = openLive({ sys: kernel });
    const dev = mapJson(live.maps()[0]!)["dev"] as Record<string, unknown>;
    expect(dev).toEqual({ ...DEVICE, ifname: undefined });
    expect(progText(live.progs()[0]!, live.kernel())).toContain(
      "  offloaded_to ifindex 7 ns_dev 4 ns_ino 4026531840\n",
    );
  }
});
