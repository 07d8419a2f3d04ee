/** `prog dump` compared with bpftool's output, byte for byte. test/report/zoo.test.ts has compiled programs with lines. */
import { afterAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { exit, insn, loadMap, loadMapValue, move, type Register, set } from "../../src/uapi/insn.ts";
import { expectSameJited, noCounts } from "../report/support/jited.ts";
import { kernelSkipReason, ktstr, type Ran, spawn } from "./bpftool.ts";
import { type Held, Kit } from "./kit.ts";
import { loadProg, type ProgOptions, returns, someTypes } from "./kit-progs.ts";

/** Most instructions of these programs have no offset or no immediate. */
const raw = (code: number, to: Register, from: Register, offset = 0, immediate = 0): Uint8Array =>
  insn(code, to, from, offset, immediate);

const clear = ([0, 2, 3, 4, 5] as const).map((register) => set(register, 7));
const store = raw(0x7a, 10, 0, -8, 5);
const arithmetic = (source: 0 | 8): Uint8Array[] =>
  [0x07, 0x17, 0x27, 0x37, 0x47, 0x57, 0x67, 0x77, 0x97, 0xa7, 0xb7, 0xc7].flatMap((code) => [
    raw(code | source, 2, source === 0 ? 0 : 3, 0, source === 0 ? 3 : 0),
    raw((code - 3) | source, 2, source === 0 ? 0 : 3, 0, source === 0 ? 3 : 0),
  ]);
/** Every comparison, with a jump of 0, so that both branches are the same. */
const jumps = (source: 0 | 8): Uint8Array[] =>
  [0x15, 0x25, 0x35, 0x45, 0x55, 0x65, 0x75, 0xa5, 0xb5, 0xc5, 0xd5].flatMap((code) =>
    [code, code + 1].map((one) => raw(one | source, 2, source === 0 ? 0 : 3, 0, source === 0 ? -3 : 0)),
  );

const PROGRAMS: Readonly<Record<string, ProgOptions>> = {
  arithmetic: {
    type: "socket_filter",
    code: [...clear, ...arithmetic(0), ...arithmetic(8), raw(0x84, 2, 0), raw(0x87, 2, 0), ...returns(0)],
  },
  "byte orders": {
    type: "socket_filter",
    code: [
      ...clear,
      ...[16, 32, 64].flatMap((bits) => [raw(0xd4, 2, 0, 0, bits), raw(0xdc, 2, 0, 0, bits)]),
      ...returns(0),
    ],
  },
  "instructions of -mcpu=v4": {
    type: "socket_filter",
    code: [
      ...clear,
      ...[16, 32, 64].map((bits) => raw(0xd7, 2, 0, 0, bits)),
      ...[8, 16, 32].map((bits) => raw(0xbf, 2, 3, bits)),
      ...[8, 16].map((bits) => raw(0xbc, 2, 3, bits)),
      ...[0x37, 0x34, 0x97, 0x94].flatMap((code) => [raw(code, 2, 0, 1, 3), raw(code | 8, 2, 3, 1)]),
      raw(0x06, 0, 0),
      store,
      ...[0x81, 0x89, 0x91].map((code) => raw(code, 2, 10, -8)),
      ...returns(0),
    ],
  },
  jumps: { type: "socket_filter", code: [...clear, ...jumps(0), ...jumps(8), ...returns(0)] },
  "loads and stores": {
    type: "socket_filter",
    code: [
      ...clear,
      store,
      ...[0x61, 0x69, 0x71, 0x79].map((code) => raw(code, 2, 10, -8)),
      ...[0x62, 0x6a, 0x72, 0x7a].map((code) => raw(code, 10, 0, -8, -1)),
      ...[0x63, 0x6b, 0x73, 0x7b].map((code) => raw(code, 10, 3, -8)),
      move(6, 1),
      ...[0x20, 0x28, 0x30].map((code) => raw(code, 0, 0, 0, 12)),
      ...[0x40, 0x48, 0x50].flatMap((code) => [set(4, 1), raw(code, 0, 4, 0, 12)]),
      ...returns(0),
    ],
  },
  atomics: {
    type: "socket_filter",
    code: [
      ...clear,
      store,
      ...[0xc3, 0xdb].flatMap((code) => [
        raw(0x7a, 10, 0, -8, 5),
        ...[0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, 0xe1, 0xf1].map((operation) =>
          raw(code, 10, 3, -8, operation),
        ),
      ]),
      ...returns(0),
    ],
  },
  "64-bit immediates and helpers": {
    type: "socket_filter",
    code: [
      ...[
        [1, 0],
        [-1, -1],
        [0, 1],
        [-5, 0],
      ].flatMap(([low, high]) => [raw(0x18, 1, 0, 0, low), raw(0, 0, 0, 0, high)]),
      ...[5, 7, 8].map((helper) => raw(0x85, 0, 0, 0, helper)),
      exit(),
    ],
  },
};

function run(words: readonly string[], under: readonly string[] = []): Ran {
  const theirs = spawn([...under, "bpftool", ...words]);
  const mine = ktstr(words, { under });
  expect([mine.out, mine.err, mine.status]).toEqual([theirs.out, "", 0]);
  expect(theirs.status).toBe(0);
  return mine;
}

function expectSameDumps(prog: Held): string {
  const words = ["prog", "dump", "xlated", "id", String(prog.id)];
  for (const rest of [[], ["opcodes"], ["visual", "opcodes"]]) run([...words, ...rest]);
  run(["-j", ...words]);
  return run(["-j", ...words, "opcodes", "linum"]).out;
}

describe.skipIf(kernelSkipReason() !== "")("prog dump is equal to bpftool's", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());

  test.each(Object.entries(PROGRAMS))("%s", (_, options) => {
    expect(expectSameDumps(loadProg(kit, options))).toContain('"disasm":"(95) exit"');
  });

  test("machine code: bytes, functions and names of instructions are bpftool's", () => {
    const counts = noCounts();
    const code = [raw(0x85, 0, 1, 0, 2), raw(0x85, 0, 1, 0, 1), exit(), ...returns(3)];
    for (const options of [...Object.values(PROGRAMS), { type: "socket_filter", code } as const]) {
      const words = ["-j", "prog", "dump", "jited", "id", String(loadProg(kit, options).id), "opcodes"];
      const mine = ktstr(words);
      expect([mine.status, mine.err]).toEqual([0, ""]);
      expectSameJited(mine.out, spawn(["bpftool", ...words]).out, counts);
      // Without opcodes, and with line breaks.
      expect(JSON.parse(ktstr(["-p", ...words]).out)).toEqual(JSON.parse(mine.out));
    }
    console.log("jited", counts);
    expect(counts.insns).toBeGreaterThan(300);
    expect(counts.otherOperations / counts.insns).toBeLessThan(0.05);
  });

  test("machine code as text, into a file, of several programs, and without privilege", () => {
    const prog = loadProg(kit, { type: "socket_filter", name: "kt_machine", code: returns(4712) });
    const words = ["prog", "dump", "jited", "id", String(prog.id)];
    expect(run([...words, "opcodes", "linum"]).out).toContain("$0x1268,%eax\n");
    const [mine, theirs] = [join(kit.directory, "mine"), join(kit.directory, "theirs")];
    expect(ktstr([...words, "file", mine])).toEqual(spawn(["bpftool", ...words, "file", theirs]));
    expect(readFileSync(mine)).toEqual(readFileSync(theirs));
    loadProg(kit, { type: "socket_filter", name: "kt_machine", code: returns(4713) });
    run(["prog", "dump", "jited", "name", "kt_machine"]);
    expect(JSON.parse(ktstr(["-j", "prog", "dump", "jited", "name", "kt_machine"]).out)).toHaveLength(2);
    expect(ktstr(words, { under: ["setpriv", "--bounding-set", "-syslog"] })).toMatchObject({
      status: 1,
      err: expect.stringContaining("CAP_SYSLOG"),
    });
  });

  test("maps by id, and bytes in their values", () => {
    const hash = kit.map({ type: "hash" });
    const array = kit.map({ type: "array", valueSize: 64, maxEntries: 1 });
    const code = [loadMap(1, hash.fd), loadMap(2, array.fd), loadMapValue(3, array.fd, 16), ...returns(0)];
    const dumped = expectSameDumps(loadProg(kit, { type: "socket_filter", code }));
    expect(dumped).toContain(`map[id:${hash.id}]"`);
    expect(dumped).toContain(`map[id:${array.id}][0]+16"`);
  });

  test("a function's prototype, and functions that call each other", () => {
    const types = someTypes(kit);
    const typed = loadProg(kit, {
      type: "socket_filter",
      btfFd: types.btf.fd,
      funcTypeId: types.functionId,
    });
    expect(expectSameDumps(typed)).toContain('"proto":"int a_function(void * ctx)"');
    const code = [raw(0x85, 0, 1, 0, 2), raw(0x85, 0, 1, 0, 1), exit(), ...returns(3)];
    expect(expectSameDumps(loadProg(kit, { type: "socket_filter", code }))).toContain("call pc+2#bpf_prog_");
  });

  test("several programs of one name, with a title each", () => {
    for (const value of [1, 2])
      loadProg(kit, { type: "socket_filter", name: "kt_same_name", code: returns(value) });
    const words = ["prog", "dump", "xlated", "name", "kt_same_name"];
    expect(run([...words, "opcodes"]).out).toContain(": socket_filter  name kt_same_name  tag ");
    expect(JSON.parse(run(["-j", ...words]).out)).toHaveLength(2);
    expect(JSON.parse(ktstr(["-p", ...words]).out)).toEqual(JSON.parse(ktstr(["-j", ...words]).out));
    for (const rest of [["visual"], ["file", "/dev/null"]])
      expect(ktstr([...words, ...rest])).toMatchObject({
        status: 1,
        err: expect.stringContaining("several"),
      });
  });

  test("a pinned program, by its tag, with shortened words, into a file", () => {
    const prog = loadProg(kit, { type: "socket_filter", name: "kt_pinned", code: returns(4711) });
    run(["prog", "dump", "xlated", "pinned", kit.pin(prog, "xlated")]);
    const [shown] = JSON.parse(`[${ktstr(["-j", "prog", "show", "id", String(prog.id)]).out}]`);
    expect(run(["p", "d", "x", "tag", shown.tag, "op", "l"]).out).toContain("= 4711\n");
    const [mine, theirs] = [join(kit.directory, "mine"), join(kit.directory, "theirs")];
    const words = ["prog", "dump", "xlated", "id", String(prog.id), "file"];
    expect(ktstr(["-j", ...words, mine])).toEqual(spawn(["bpftool", "-j", ...words, theirs]));
    expect(readFileSync(mine)).toEqual(readFileSync(theirs));
    expect(readFileSync(mine)).toHaveLength(16);
  });

  test("without CAP_SYSLOG the kernel shows no addresses", () => {
    const without = ["setpriv", "--bounding-set", "-syslog"];
    const code = [raw(0x85, 0, 1, 0, 1), exit(), raw(0x85, 0, 0, 0, 7), exit()];
    const prog = String(loadProg(kit, { type: "socket_filter", code }).id);
    const { out } = run(["prog", "dump", "xlated", "id", prog], without);
    expect(out).toContain("call pc+1#0x0\n");
    run(["-j", "prog", "dump", "xlated", "id", prog, "opcodes"], without);
  });

  test("conflicting words are errors", () => {
    const prog = String(loadProg(kit, { type: "socket_filter" }).id);
    const words = ["prog", "dump", "xlated", "id", prog];
    for (const [line, said] of [
      [["prog", "dump"], "give xlated or jited"],
      [["prog", "dump", "x"], "which program"],
      [["prog", "dump", "id", prog], "is neither xlated nor jited"],
      [["prog", "dump", "j"], "jited: which program"],
      [["prog", "dump", "jited", "id", prog, "visual"], "has no graph"],
      [[...words, "file"], "no file given"],
      [[...words, "file", "/dev/null", "linum"], "cannot be combined with linum"],
      [[...words, "all"], "unexpected arguments: all"],
      [["-j", ...words, "visual"], "a graph cannot be printed as JSON"],
    ] as const) {
      const { status, out, err } = ktstr(line);
      expect([line, status, out + err]).toEqual([line, 2, expect.stringContaining(said)]);
    }
    expect(ktstr([...words, "file", "/nowhere/at/all"])).toMatchObject({
      status: 1,
      err: expect.stringContaining("ENOENT"),
    });
  });
});
