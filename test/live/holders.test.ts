/** Processes that hold objects of the running kernel. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { kernelSkipReason, ktstr, ktstrJson } from "./bpftool.ts";
import { Kit } from "./kit.ts";
import { createLink } from "./kit-links.ts";
import { kernelType, loadProg, someTypes } from "./kit-progs.ts";

test.skipIf(kernelSkipReason("sleep") !== "")(
  "are shown with every map, program, link and BTF object",
  async () => {
    using kit = new Kit();
    const map = kit.map({ type: "hash", name: "held" });
    const { btf } = someTypes(kit);
    const target = kernelType("bpf_iter_task", BTF_KIND.FUNC);
    const prog = loadProg(kit, { type: "tracing", attachType: "trace_iter", attachBtfId: target });
    const link = createLink(kit, prog, { attach: "trace_iter" });
    const comm = readFileSync("/proc/self/comm", "utf8").trim();
    const me = { pid: process.pid, comm };
    for (const [kind, id] of [
      ["map", map.id],
      ["prog", prog.id],
      ["link", link.id],
      ["btf", btf.id],
    ] as const)
      expect([kind, ktstrJson(kind, "show", "id", `${id}`)]).toMatchObject([kind, { pids: [me] }]);
    // A second process with the map, as its standard input.
    const child = Bun.spawn(["sleep", "60"], { stdio: [map.fd, "ignore", "ignore"] });
    kit.defer(() => child.kill());
    expect(ktstrJson("map", "show", "id", `${map.id}`)).toMatchObject({
      pids: [me, { pid: child.pid, comm: "sleep" }].sort((a, b) => a.pid - b.pid),
    });
    expect(ktstr(["map", "show", "id", `${map.id}`]).out).toContain(`sleep(${child.pid})`);
  },
);
