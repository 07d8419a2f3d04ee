/** Holders of maps of the running kernel, compared with bpftool's listings of everything that can hold one. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { bpftoolJson, kernelSkipReason, ktstr, ktstrJson } from "./bpftool.ts";
import { Kit, u32 } from "./kit.ts";

interface Held {
  readonly id: number;
  readonly pinned?: readonly string[];
  readonly map_ids?: readonly number[];
}

test.skipIf(kernelSkipReason() !== "")("map show --holders has the holders of bpftool's listings", () => {
  using kit = new Kit();
  const inner = kit.map({ type: "array", valueSize: 8, maxEntries: 1, name: "inner" });
  const outer = kit.map({ type: "array_of_maps", maxEntries: 5, innerFd: inner.fd, name: "outer" });
  kit.update(outer, u32(3), u32(inner.fd));
  kit.update(outer, u32(4), u32(inner.fd));
  const path = kit.pin(inner, "held");
  const shown = ktstrJson("map", "show", "id", String(inner.id), "--holders") as {
    readonly holders: { readonly [key: string]: unknown };
  };
  const theirs = bpftoolJson("-f", "map", "show", "id", String(inner.id)) as Held;
  expect(theirs.pinned).toEqual([path]);
  expect(shown.holders).toEqual({
    pids: [{ pid: process.pid, comm: readFileSync("/proc/self/comm", "utf8").trim() }],
    pinned: theirs.pinned,
    prog_ids: [],
    link_ids: [],
    outer_map_ids: [outer.id],
  });
  const text = ktstr(["map", "show", "id", String(inner.id), "--holders"]).out;
  expect(text).toContain(`held by process ${process.pid} (`);
  expect(text).toContain(`pin ${path}\n\t        map ${outer.id} (outer)\n`);
  // Maps of every program, from the listing of programs.
  const progs = bpftoolJson("prog", "show") as Held[];
  for (const { id, holders } of ktstrJson("map", "show", "--holders") as {
    readonly id: number;
    readonly holders: { readonly prog_ids: readonly number[] };
  }[]) {
    const users = progs.filter(({ map_ids }) => map_ids?.includes(id)).map((prog) => prog.id);
    expect([id, holders.prog_ids.filter((one) => users.includes(one))]).toEqual([id, users]);
  }
});
