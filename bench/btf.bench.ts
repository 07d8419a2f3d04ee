/** Reading and indexing the running kernel's BTF, compared with libbpf's `btf__parse`. Needs libbpf-dev. */
import { existsSync, readFileSync } from "node:fs";
import { Btf } from "../src/btf/btf.ts";
import { type Case, type Job, ours } from "./case.ts";
import { KERNEL_BTF } from "./machine.ts";

const parse: Job = (path = "") => {
  return () => ({ items: Btf.parse(readFileSync(path)).typeCount, checksum: 0 });
};

/** Reads the file before the measurement. libbpf's time includes the read. */
const index: Job = (path = "") => {
  const bytes = readFileSync(path);
  return () => ({ items: Btf.parse(bytes).typeCount, checksum: 0 });
};

export const jobs: Record<string, Job> = { parse, index };

function caseOf(name: string, job: string, target?: number): Case {
  return {
    name,
    ...(target === undefined ? {} : { target }),
    times: 21,
    missing: () => (existsSync(KERNEL_BTF) ? "" : `there is no ${KERNEL_BTF}`),
    prepare: () => ({
      subject: ours(job, KERNEL_BTF),
      reference: { kind: "c", program: "btf_parse", libraries: ["-lbpf"], words: [KERNEL_BTF] },
      [Symbol.dispose]: () => {},
    }),
  };
}

export const cases: readonly Case[] = [
  caseOf("BTF of this kernel, read and indexed", "parse"),
  caseOf("BTF of this kernel, indexed", "index", 0.5),
];
