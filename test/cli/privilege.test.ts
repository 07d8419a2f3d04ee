/** Errors of commands that run without privilege. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { CLI, kernelSkipReason, ktstr, spawn } from "../live/bpftool.ts";
import { type HeldMap, Kit } from "../live/kit.ts";

const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
/** Runs as uid 0, so that every file can be read, but without capabilities. */
const NO_CAPABILITIES = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];

const COMMANDS: readonly (readonly [words: string, command: string, capability: string])[] = [
  ["map show", "BPF_MAP_GET_NEXT_ID", "CAP_SYS_ADMIN"],
  ["map dump id ID", "BPF_MAP_GET_FD_BY_ID", "CAP_SYS_ADMIN"],
  ["prog show", "BPF_PROG_GET_NEXT_ID", "CAP_SYS_ADMIN"],
  ["link show", "BPF_LINK_GET_NEXT_ID", "CAP_SYS_ADMIN"],
  ["btf show", "BPF_BTF_GET_NEXT_ID", "CAP_SYS_ADMIN"],
  ["-j inspect", "_GET_NEXT_ID", "CAP_SYS_ADMIN"],
  ["prog show --stats 1", "BPF_ENABLE_STATS", "CAP_SYS_ADMIN"],
  ["pin name", "BPF_MAP_GET_NEXT_ID", "CAP_SYS_ADMIN"],
];

const why = kernelSkipReason("setpriv");
// Without access to the folders of bun and of the sources, the user nobody cannot start ktstr, and only root is tested.
const nobodyCanRun = why === "" && spawn([...NOBODY, process.execPath, CLI, "--version"]).status === 0;

describe.skipIf(why !== "")("without privilege", () => {
  const kit = new Kit();
  let map: HeldMap;
  beforeAll(() => {
    map = kit.map({ type: "hash", name: "secret" });
  });
  afterAll(() => kit[Symbol.dispose]());

  for (const [who, under] of [
    ["root without capabilities", NO_CAPABILITIES],
    ...(nobodyCanRun ? [["nobody", NOBODY] as const] : []),
  ] as const) {
    for (const [words, command, capability] of COMMANDS) {
      test(`${who}: ${words} says which command failed, with which error, and which privilege it needs`, () => {
        const ran = ktstr(words.replace("ID", String(map.id)).split(" "), { under });
        const [told, silent] = words.startsWith("-j") ? [ran.out, ran.err] : [ran.err, ran.out];
        expect([ran.status, silent]).toEqual([1, ""]);
        expect(told).toMatch(/^(ktstr: error: |\{"error":)[^\n]+\n$/);
        for (const part of [command, "EPERM (errno 1)", capability]) expect(told).toContain(part);
      });
    }

    test(`${who}: --help needs no privilege`, () => {
      expect(ktstr(["map", "--help"], { under }).status).toBe(0);
    });
  }
});
