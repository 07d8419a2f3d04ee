/** Help, wrong usage, and errors for objects that do not exist. */
import { describe, expect, test } from "bun:test";
import { kernelSkipReason, ktstr } from "../live/bpftool.ts";
import { Kit } from "../live/kit.ts";
import { loadProg } from "../live/kit-progs.ts";

const kernelTest = test.skipIf(kernelSkipReason() !== "");

const ALL_COMMANDS = [
  ["inspect"],
  ["map"],
  ["map", "show"],
  ["map", "dump"],
  ["map", "lookup"],
  ["map", "peek"],
  ["map", "getnext"],
  ["get"],
  ["btf", "dump"],
  ["prog"],
  ["prog", "show"],
  ["link"],
  ["link", "show"],
  ["btf"],
  ["btf", "show"],
  ["pin"],
  ["diff"],
] as const;

test.each([
  { command: "completions", object: "bash" },
  { command: "vmlinux", object: "bzImage" },
  { command: "btf dump file", object: "a.o" },
])("$command reads no kernel: --memory is wrong usage", ({ command, object }) => {
  const words = [...command.split(" "), object];
  expect(ktstr(["--memory", "mem", ...words])).toMatchObject({
    status: 2,
    out: "",
    err: `ktstr: error: ${command}: it reads no kernel, so --memory cannot be used. Omit --memory and the options that need it\n`,
  });
  expect(ktstr(["--vmcoreinfo", "0x1000", ...words])).toMatchObject({
    status: 2,
    err: "ktstr: error: --vmcoreinfo needs --memory\n",
  });
});

test.skipIf(Bun.which("script") === null)(
  "inspect cuts lines to a terminal's width, but not on a pipe",
  () => {
    const command = `stty cols 60; ${process.execPath} ${import.meta.dir}/../../src/cli.ts inspect --sample`;
    const run = (...words: string[]): string => Bun.spawnSync(words).stdout.toString();
    const lines = run("script", "-qec", command, "/dev/null")
      .replace(/\u001b\[\d+m/g, "")
      .split(/\r?\n/);
    expect(Math.max(...lines.map((line) => line.length))).toBe(60);
    const piped = run(process.execPath, `${import.meta.dir}/../../src/cli.ts`, "inspect", "--sample").split(
      "\n",
    );
    expect(piped).toHaveLength(lines.length);
    expect(Math.max(...piped.map((line) => line.length))).toBeGreaterThan(60);
  },
);

describe("wrong usage is status 2, one line on stderr and nothing on stdout", () => {
  for (const [words, sentence] of [
    [["--jsn"], "unknown option --jsn. Did you mean --json?"],
    [["-x", "map", "show"], "unknown option -x"],
    [["map", "show", "--limit", "3"], "unknown option --limit"],
    [["inspect", "--limit"], "option --limit: it needs a value"],
    [["inspect", "--limit", "many"], '--limit "many": not a number of entries'],
    [["inspect", "--limit", "-1"], "--limit"],
    [["inspect", "--limit", "1.5"], "not a number of entries"],
    [["prog", "show", "--stats", "0"], "not a number of seconds"],
    [["prog", "show", "--stats="], "not a number of seconds"],
    [["--json=yes", "map"], "option --json: it takes no value"],
    [["mpa"], 'there is no command "mpa". Did you mean map?'],
    [["map", "shw"], 'ktstr map: there is no command "shw". Did you mean show?'],
    [["map", "xyzzy"], "There are: show, dump"],
    [["map", "dump"], "map dump: which map? id N, name NAME or pinned PATH"],
    [["map", "show", "id"], "map id: no id given"],
    [["map", "show", "id", "x"], 'map id "x": not a 32-bit number'],
    [["map", "show", "id", "4294967296"], "not a 32-bit number"],
    [["map", "show", "id", "-1"], "-1"],
    [["map", "show", "id", "1", "2"], "unexpected arguments: 2"],
    [["map", "show", "nme", "a"], 'map: "nme" is not one of id, name, pinned. Did you mean name?'],
    [["map", "show", "tag", "0123456789abcdef"], '"tag" is not one of'],
    [["prog", "show", "tag", "012"], "a tag has 16 hexadecimal digits"],
    [["link", "show", "name", "x"], '"name" is not one of'],
    [["inspect", "everything"], "inspect: unexpected arguments: everything"],
    [["pin"], "pin: no map name given"],
    [["pin", "a", "b"], "Write a command after `--`"],
    [["map", "show", "--", "id", "1"], "takes no words after `--`"],
    [["--vmlinux", "x", "map"], "--vmlinux needs --memory"],
    [["map", "dump", "scx.bss"], "Did you mean `name scx.bss`?"],
    [["map", "dump", "158"], "Did you mean `id 158`?"],
    [["map", "update"], "Use `bpftool map update`"],
    [["xyzzy"], "There are: inspect"],
    [["help", "map", "nothing"], 'there is no command "nothing"'],
  ] as const) {
    test(words.join(" "), () => {
      const ran = ktstr(words);
      expect([ran.status, ran.out]).toEqual([2, ""]);
      expect(ran.err).toContain(sentence);
      expect(ran.err).toMatch(/^ktstr: error: [^\n]+\n$/);
    });
  }
});

describe("help", () => {
  for (const words of ALL_COMMANDS) {
    test(`of ${words.join(" ")} has usage, options and examples of that command`, () => {
      const ran = ktstr([...words, "--help"]);
      expect([ran.status, ran.err]).toEqual([0, ""]);
      for (const part of ["USAGE", "OPTIONS", "EXAMPLES", "--json", "--help"])
        expect(ran.out).toContain(part);
      const examples = ran.out.slice(ran.out.indexOf("EXAMPLES")).split("\n").slice(2);
      const lines = examples.filter((line) => line.startsWith("  ")).map((line) => line.trim());
      expect(lines.length).toBeGreaterThan(0);
      for (const line of lines) {
        const named = line.replace(/^ktstr( -[jp])*/, "ktstr");
        expect(named.startsWith(`ktstr ${words.join(" ")}`)).toBe(true);
      }
      expect(ran.out).not.toContain("\u001b");
    });
  }

  test("is printed for -h and `help`, before and after a command, and without a command", () => {
    const whole = ktstr([]).out;
    expect(whole).toContain("COMMANDS");
    for (const words of [["-h"], ["--help"], ["help"]])
      expect(ktstr(words)).toEqual({ status: 0, out: whole, err: "" });
    const map = ktstr(["map", "--help"]).out;
    for (const words of [
      ["--help", "map"],
      ["map", "help"],
      ["map", "-h"],
    ]) {
      expect(ktstr(words)).toEqual({ status: 0, out: map, err: "" });
    }
  });
});

describe("a missing object is status 1, with suggestions", () => {
  kernelTest("a map's name", () => {
    using kit = new Kit();
    kit.map({ type: "hash", name: "my_statistics" });
    const near = ktstr(["map", "dump", "name", "my_statistic"]);
    expect([near.status, near.out]).toEqual([1, ""]);
    expect(near.err).toMatch(
      /^ktstr: error: no map is named "my_statistic" \(\d+ seen\)\. Did you mean my_statistics\?\n$/,
    );
    const far = ktstr(["map", "show", "name", "qqqqqqqq"]);
    expect(far.status).toBe(1);
    expect(far.err).toContain("`ktstr map show` lists them");
  });

  kernelTest("a program's name and tag", () => {
    using kit = new Kit();
    loadProg(kit, { type: "xdp", name: "drop_packets" });
    const near = ktstr(["prog", "show", "name", "drop_packet"]);
    expect(near.err).toContain("Did you mean drop_packets?");
    expect(near.status).toBe(1);
    const tag = ktstr(["prog", "show", "tag", "0123456789abcdef"]);
    expect([tag.status, tag.out]).toEqual([1, ""]);
    expect(tag.err).toContain("no prog has tag 0123456789abcdef");
  });

  for (const kind of ["map", "prog", "link", "btf"]) {
    kernelTest(`${kind} id 4294967295`, () => {
      const ran = ktstr([kind, "show", "id", "4294967295"]);
      expect([ran.status, ran.out]).toEqual([1, ""]);
      expect(ran.err).toContain("id 4294967295");
      expect(ran.err).toMatch(/^ktstr: error: [^\n]+\n$/);
    });
  }

  kernelTest("a path that is not in a bpf file system", () => {
    const ran = ktstr(["map", "show", "pinned", "/proc/version"]);
    expect(ran).toEqual({
      status: 1,
      out: "",
      err:
        "ktstr: error: BPF_OBJ_GET /proc/version: EACCES (errno 13). Pins are in a bpf file system, such as " +
        "/sys/fs/bpf, and this user must be allowed to open them\n",
    });
  });

  kernelTest("a hostile word is escaped in the error", () => {
    const ran = ktstr(["map", "show", "name", "a\u001b[31m\n"]);
    expect(ran.status).toBe(1);
    expect(ran.err).not.toContain("\u001b");
    expect(ran.err.split("\n")).toHaveLength(2);
  });
});

describe("words", () => {
  kernelTest("can be shortened as in bpftool, and options can be anywhere", () => {
    using kit = new Kit();
    const { id } = kit.map({ type: "hash", name: "by_words" });
    const whole = ktstr(["-j", "map", "show", "id", String(id)]).out;
    for (const words of [
      ["map", "show", "id", String(id), "-j"],
      ["map", "-j", "list", "id", String(id)],
      ["m", "s", "i", String(id), "--json"],
      ["map", "show", "id", `0x${id.toString(16)}`, "-j"],
      ["map", "-j", "show", "name", "by_words"],
    ]) {
      expect(ktstr(words)).toEqual({ status: 0, out: whole, err: "" });
    }
  });

  kernelTest("`ktstr map` is `ktstr map show`", () => {
    using kit = new Kit();
    const { id } = kit.map({ type: "hash" });
    const listing = JSON.parse(ktstr(["map", "-j"]).out) as { id: number }[];
    expect(listing.map((map) => map.id)).toContain(id);
  });
});

test.each(["", "map", "prog", "sched", "task", "btf"])(
  "%s --help shows each command's own description",
  (parent) => {
    const words = parent === "" ? [] : [parent];
    const commands = /\nCOMMANDS\n\n(.*?)\n\n/s.exec(ktstr([...words, "--help"]).out)![1]!.split("\n");
    expect(commands.length).toBeGreaterThan(1);
    for (const line of commands) {
      const [names = "", description = ""] = line.trim().split(/ {4}/);
      const [name = ""] = names.split(", ");
      const first = ktstr([...words, name, "--help"]).out.split("\n")[0];
      expect(first).toBe(`${description} (${["ktstr", ...words, name].join(" ")})`);
    }
  },
);
