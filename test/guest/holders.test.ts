/** Holders of objects in the lab's frozen machines, compared with the `pids` of bpftool in them. */
import { expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import type { HeldKind } from "../../src/state.ts";
import { utf8 } from "../../src/text.ts";
import { eachMachine, labImages, withoutBpftools } from "./images.ts";

interface Printed {
  readonly id: number;
  readonly pids?: readonly { readonly pid: number; readonly comm: string }[];
}

const LISTS: readonly (readonly [HeldKind, string])[] = [
  ["map", "map-list.json"],
  ["prog", "prog-show.json"],
  ["link", "link-show.json"],
  ["btf", "btf-show.json"],
];

eachMachine(await labImages(), (image) => {
  for (const [kind, file] of LISTS) {
    const listed = withoutBpftools(JSON.parse(image.answer(file) ?? "[]") as Printed[]);
    // Answers from before the lab had bpftool 7.8, or of a guest in which its pid_iter does not load, have no pids.
    const hasPids = listed.some(({ pids }) => pids !== undefined);
    test.skipIf(!hasPids)(`${file}: every ${kind} has the processes of bpftool`, () => {
      using guest = openGuest({ memory: image.memory });
      const holders = guest.holders();
      if (!holders.ok) throw new Error(holders.why.detail);
      const ours = listed.map(({ id }) => [
        id,
        (holders.value[kind].get(id) ?? []).map(({ pid, comm }) => ({ pid, comm: utf8(comm) })),
      ]);
      const theirs = listed.map(({ id, pids = [] }) => [id, pids.filter(({ comm }) => comm !== "bpftool")]);
      expect(ours).toEqual(theirs);
    });
  }
});
