/** Converts a round of a record to a snapshot for `diff`. Data that a record does not have, such as map contents, is omitted. */
import type { Round, SeriesFacts } from "../round.ts";
import type { Snapshot } from "./snapshot.ts";

const NS_PER_MS = 1_000_000n;

export function roundSnapshot({ kernel }: SeriesFacts, round: Round): Snapshot {
  const { bootTimeUnixNs } = kernel;
  const { sched } = round;
  const uptimeNs =
    bootTimeUnixNs === undefined ? undefined : BigInt(round.unixMs) * NS_PER_MS - bootTimeUnixNs;
  return {
    kernel: {
      release: kernel.release,
      version: "",
      machine: kernel.machine,
      onlineCpus: kernel.onlineCpus,
      statsEnabled: undefined,
      uptimeNs: uptimeNs === undefined || uptimeNs < 0n ? undefined : uptimeNs,
      bootTimeUnixNs,
    },
    scheduler:
      sched === undefined || sched.ops === ""
        ? undefined
        : {
            ops: sched.ops,
            object: "",
            state: sched.state,
            progIds: undefined,
            enableSeq: sched.enableSeq,
          },
    sched:
      sched === undefined || sched.ops === ""
        ? []
        : [
            {
              ops: sched.ops,
              place: "root",
              queues: [],
              events: new Map(sched.events.map(({ name, count }) => [name, count])),
            },
          ],
    progs: round.progs.map(({ facts, counters }) => ({
      id: facts.id,
      type: facts.type,
      name: facts.name,
      tag: facts.tag,
      loadTimeNs: facts.loadTimeNs,
      counters: counters && { calls: counters.count, runTimeNs: counters.runTimeNs, misses: counters.misses },
    })),
    maps: round.maps.map(({ facts, entries, bytes }) => ({
      id: facts.id,
      type: facts.type,
      name: facts.name,
      keySize: facts.keySize,
      valueSize: facts.valueSize,
      maxEntries: facts.maxEntries,
      memlockBytes: bytes,
      frozen: undefined,
      count: entries ?? 0,
      countIsWhole: entries !== undefined,
      variables: undefined,
    })),
    links: round.links.map(({ id, type, progId }) => ({ id, type, progId, mapId: undefined })),
    warnings: [],
  };
}
