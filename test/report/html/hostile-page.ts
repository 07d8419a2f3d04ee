/** The sample's page with hostile names, values and log. */
import { openGuest } from "../../../src/guest/guest.ts";
import { recordPage } from "../../../src/report/html/record.ts";
import { reportPage } from "../../../src/report/html/report.ts";
import { inspectSched } from "../../../src/report/inspect-sched.ts";
import { buildInspection } from "../../../src/report/inspection.ts";
import sample from "../../../src/sample.ts";

export const HOSTILE: readonly string[] = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(2)>',
  "'><svg/onload=alert(3)>",
  "</script><script>alert(4)</script>",
  "</style><b onmouseover=alert(5)>",
  "</pre></code></details><h2 id=maps>",
  "&lt;script&gt;&#60;i&#62;",
  "a\u2028b\u2029c\u202ed",
  "javascript:alert(6)//--><!--",
  "two\nlines\0and \u001b[31mred",
];

/** Returns the page of a record with hostile names. */
export function recordPageWith(name: (index: number) => string): string {
  let index = 0;
  const text = (): string => name(index++);
  const steps = [1000, 2000, 3000];
  return recordPage(
    {
      facts: {
        source: text(),
        kernel: {
          release: text(),
          machine: text(),
          possibleCpus: 1,
          onlineCpus: 1,
          bootTimeUnixNs: undefined,
        },
        globals: [],
      },
      startUnixMs: 0,
      lengthMs: 3000,
      rounds: 4,
      steps,
      progs: Array.from({ length: 10 }, (_, id) => ({
        facts: { id, name: text(), type: text(), tag: "", loadTimeNs: 1n, mapIds: [] },
        total: { count: 5n, runTimeNs: 5_000_000n, misses: 1n },
        shares: steps.map((step) => (step * (id + 1)) / 1e6),
      })),
      maps: Array.from({ length: 10 }, (_, id) => {
        const facts = { id, name: text(), type: text(), keySize: 4, valueSize: 4, maxEntries: 9 };
        return { first: { facts, entries: 1, bytes: 1 }, last: { facts, entries: 2, bytes: 2 } };
      }),
      events: [{ name: text(), count: 5n }],
      states: [{ atMs: 0, state: text(), ops: text() }],
      globals: Array.from({ length: 10 }, () => ({
        name: text(),
        first: { [text()]: text() },
        last: text(),
        values: [1, null, 3],
      })),
      damage: text(),
    },
    text(),
    { unixSeconds: 0n, version: "0" },
  );
}

/** Returns the page with `name(counter)` for every name that a machine can choose. */
export function pageWith(name: (index: number) => string): string {
  using state = openGuest({ memory: [{ path: sample }] });
  let index = 0;
  const text = (): string => name(index++);
  const bytes = (): Uint8Array => Buffer.from(text());
  const whole = buildInspection(state, 4);
  const scheds = inspectSched(state).map(({ view }) => ({
    view: {
      ...view,
      origin: text(),
      opsName: text(),
      cgroupPath: text(),
      trigger: text(),
      mode: [text(), text()],
      exit: {
        kind: 1024,
        code: 1n,
        reason: text(),
        message: text(),
        comm: text(),
        pid: 1,
        cpu: 0,
        backtrace: [text()],
      },
      cpus: view.cpus.map((cpu) => ({
        ...cpu,
        currComm: text(),
        currClass: text(),
        rescue: text(),
        unknown: [text()],
      })),
      queues: view.queues.map((queue) => ({
        ...queue,
        tasks: queue.tasks.map((task) => ({ ...task, comm: text() })),
      })),
      tasks: view.tasks.map((task) => ({
        ...task,
        comm: text(),
        state: text(),
        scheduler: text(),
        stack: [text()],
        unknown: [text()],
      })),
      events: view.events.map((event) => ({ ...event, name: text() })),
      dsqNames: new Map(view.queues.map(({ id }) => [id, text()])),
      unknown: [text()],
      notAvailable: [text()],
    },
    findings: [
      {
        kind: "ejected" as const,
        summary: text(),
        details: [text()],
        pids: [],
        cpus: [],
        dsqId: undefined,
        waitMs: undefined,
      },
    ],
  }));
  const { kernel, scheduler } = whole;
  const inspection = {
    ...whole,
    kernel: { ...kernel, release: text(), version: text(), machine: text() },
    scheduler: scheduler && { ...scheduler, opsName: text(), objectPrefix: text(), state: text() },
    progs: whole.progs.map((prog) => ({ ...prog, name: bytes(), fullName: bytes() })),
    links: whole.links.map((link) => ({
      ...link,
      place: text(),
      details: { ...link.details, path: text(), inner: [{ [text()]: text() }] },
    })),
    maps: whole.maps.map((map) => ({
      ...map,
      info: { ...map.info, name: bytes() },
      variables: map.variables?.map((variable) => ({ ...variable, name: text() })),
      sample: {
        ...map.sample,
        problem: text(),
        // Includes char arrays, which are shown as text.
        entries: map.sample.entries.map((entry) => ({
          ...entry,
          key: filled(entry.key),
          values: entry.values.map(filled),
        })),
        records: map.sample.records.map((record) => ({
          ...record,
          note: text(),
          owner: { kind: "task" as const, pid: 1, tgid: 1, comm: bytes() },
        })),
      },
    })),
    warnings: [text(), text()],
  };
  const { records, ...log } = state.log();
  return reportPage({
    inspection,
    scheds,
    log: { ...log, records: records.map((record) => ({ ...record, text: bytes(), caller: text() })) },
    origin: text(),
    made: { unixSeconds: 0n, version: "0" },
  });

  function filled(of: Uint8Array): Uint8Array {
    const some = bytes();
    return Uint8Array.from(of, (_, at) => some[at % some.length]!);
  }
}
