/** `btf dump ... format c`: the output compiles, and has the layouts in BTF. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Btf } from "../../src/btf/btf.ts";
import { cDump } from "../../src/btf/c.ts";
import { FormatError } from "../../src/errors.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BtfWriter } from "./support/encode.ts";
import { LONG_MS, liveSkipReason, run, vmlinuxBytes } from "./support/live.ts";

const compilerTest = test.skipIf(liveSkipReason("cc", "clang-19", "llvm-objcopy-19") !== "");
let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ktstr-c-"));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const STRICT = ["-Wall", "-Werror", "-fsyntax-only"];
const C_NAME = /^[A-Za-z_]\w*$/;

/** Writes static assertions for the size and the member offsets in BTF of every struct and union with a unique name. */
function assertions(btf: Btf): { text: string; count: number } {
  const seen = new Map<string, number>();
  const ids: number[] = [];
  for (let id = btf.firstId; id < btf.typeCount; id++) {
    const kind = btf.kind(id);
    if (kind !== BTF_KIND.STRUCT && kind !== BTF_KIND.UNION && kind !== BTF_KIND.ENUM) continue;
    const name = btf.typeName(id);
    seen.set(name, (seen.get(name) ?? 0) + 1);
    if (C_NAME.test(name) && kind !== BTF_KIND.ENUM) ids.push(id);
  }
  let text = "";
  let count = 0;
  for (const id of ids) {
    const name = btf.typeName(id);
    // va_list is built into the compiler and differs between machines.
    const isOwn = seen.get(name) === 1;
    if (!isOwn || [...btf.members(id)].some(({ typeId }) => btf.typeName(typeId) === "va_list")) continue;
    const type = `${btf.kind(id) === BTF_KIND.STRUCT ? "struct" : "union"} ${name}`;
    text += `_Static_assert(sizeof(${type}) == ${btf.sizeOf(id)}, "size of ${type}");\n`;
    count++;
    for (const member of btf.members(id)) {
      if (member.name === "" || member.bitSize > 0) continue;
      const offset = member.bitOffset / 8;
      text += `_Static_assert(__builtin_offsetof(${type}, ${member.name}) == ${offset}, "${type}.${member.name}");\n`;
      count++;
    }
  }
  return { text, count };
}

/** Compiles a dump with assertions for its layouts, for this machine and for BPF. Returns the number of assertions. */
function compile(btf: Btf, name: string): number {
  const { text, count } = assertions(btf);
  const source = join(directory, `${name}.c`);
  writeFileSync(source, [...cDump(btf), text].join(""));
  // gcc does not know clang's pragma and the address spaces of kfuncs for arenas.
  run("cc", ...STRICT, "-DBPF_NO_PRESERVE_ACCESS_INDEX", "-DBPF_NO_KFUNC_PROTOTYPES", source);
  run("clang-19", ...STRICT, "-target", "bpf", source);
  return count;
}

describe("a C dump compiles, and every struct has BTF's layout", () => {
  compilerTest(
    "of the running kernel",
    () => {
      expect(compile(Btf.parse(vmlinuxBytes(), { name: "vmlinux" }), "vmlinux")).toBeGreaterThan(50_000);
    },
    LONG_MS,
  );

  compilerTest(
    "of a program with bit-fields, packed structs and holes",
    () => {
      const source = join(directory, "awkward.bpf.c");
      writeFileSync(
        source,
        `typedef unsigned int u32; typedef unsigned long long u64; struct only_declared;
      struct __attribute__((packed)) tight { char a; u64 b; struct { char c; u32 d; }; };
      struct holes { char a; u64 b __attribute__((aligned(32))); char c; int d : 3; long e : 40; char : 5; char f : 2; } __attribute__((aligned(64)));
      struct tail { u32 count; struct tight rows[]; };
      union wide { u32 a; char b[3]; } __attribute__((aligned(16)));
      enum __attribute__((packed)) tiny { TINY_A, TINY_B = 200 };
      enum big { BIG = 0x100000000ULL, BIGGER = -1ULL };
      typedef struct { struct holes *next; enum { INNER_A, INNER_B } state; enum tiny t; enum big g; } anonymous_t;
      typedef int (*compare_t)(const void *, const anonymous_t *, struct only_declared *, ...);
      struct uses { compare_t compare[2]; anonymous_t by_value; union wide w; __int128 i; struct tail *tail; _Bool yes; const char *const volatile name; int (*(*returns)(void))[3]; } x;
      struct tail *y; struct tight z[2]; struct mixed { u32 a : 5; u32 b : 30; u64 c : 60; u64 d : 10; short e; } m;
      struct __attribute__((packed)) packed_bits { u32 a : 5; u32 b : 30; char c; u64 d : 33; } p;`,
      );
      run(
        "clang-19",
        ...STRICT.slice(0, 2),
        "-g",
        "-O2",
        "-target",
        "bpf",
        "-c",
        source,
        "-o",
        `${source}.o`,
      );
      run("llvm-objcopy-19", "--dump-section", `.BTF=${source}.btf`, `${source}.o`);
      const btf = Btf.parse(readFileSync(`${source}.btf`));
      expect(compile(btf, "awkward")).toBeGreaterThan(20);
    },
    LONG_MS,
  );
});

describe("a C dump", () => {
  const body = (writer: BtfWriter, ids?: number[]): string => {
    const text = [...cDump(Btf.parse(writer.bytes()), { ids, unsorted: true })].join("");
    const lines = text.split("\n").filter((line) => !/^[#/]/.test(line) && line !== "");
    return lines.join("\n");
  };

  test("of one type has only the types that it needs", () => {
    const writer = new BtfWriter();
    const int = writer.int("int", 4, 1);
    const other = writer.struct("other", 4, [["a", int, 0]]);
    const needed = writer.struct("needed", 4, [["b", int, 0]]);
    const alias = writer.typedef("needed_t", needed);
    const root = writer.struct("root", 16, [
      ["n", alias, 0],
      ["o", writer.pointer(other), 64],
    ]);
    expect(body(writer, [root])).toBe(
      "struct needed {\n\tint b;\n};\ntypedef struct needed needed_t;\nstruct other;\n" +
        "struct root {\n\tneeded_t n;\n\tstruct other *o;\n};",
    );
  });

  test("renames the second type, and the second enumerator, with the same name", () => {
    const writer = new BtfWriter();
    const int = writer.int("int", 4, 1);
    writer.struct("s", 4, [["a", int, 0]]);
    writer.struct("s", 8, [["b", writer.array(int, 2), 0]]);
    writer.raw(BTF_KIND.ENUM, "e", 4, [writer.string("A"), 1], 1);
    writer.raw(BTF_KIND.ENUM, "f", 4, [writer.string("A"), 2], 1);
    const text = body(writer);
    expect(text).toContain("struct s {\n\tint a;\n};");
    expect(text).toContain("struct s___2 {\n\tint b[2];\n};");
    expect(text).toContain("enum f {\n\tA___2 = 2,\n}");
  });

  test("writes an unnamed member with a struct tag without C extensions", () => {
    const writer = new BtfWriter();
    const tagged = writer.struct("tagged", 4, [["a", writer.int("int", 4, 1), 0]]);
    const outer = writer.struct("outer", 4, [["", tagged, 0]]);
    expect(body(writer, [outer])).toBe(
      "struct tagged {\n\tint a;\n};\nstruct outer {\n\tstruct {\n\t\tint a;\n\t};\n};",
    );
  });

  test("of names that are not C identifiers is valid C", () => {
    const writer = new BtfWriter();
    writer.struct('x; #include "/etc/passwd"', 4, [["a\nb", writer.int("int", 4, 1), 0]]);
    expect(body(writer)).toBe("struct x___include___etc_passwd_ {\n\tint a_b;\n};");
  });

  test("writes no qualifier twice, and type tags in the compiler's syntax", () => {
    const writer = new BtfWriter();
    const constant = (id: number): number => writer.raw(BTF_KIND.CONST, "", id);
    const characters = writer.array(constant(writer.int("char", 1, 1)), 16);
    const tag = (name: string, target: number, flag = false): number =>
      writer.pointer(writer.raw(BTF_KIND.TYPE_TAG, name, target, [], 0, flag));
    const root = writer.struct("root", 40, [
      ["name", constant(characters), 0],
      ["user", tag("user", 0), 128],
      ["arena", tag("address_space(1)", 0, true), 192],
      ["hostile", tag('x"))) ; int evil; /*', 0), 256],
    ]);
    expect(body(writer, [root])).toBe(
      'struct root {\n\tconst char name[16];\n\tvoid __attribute__((btf_type_tag("user"))) *user;\n' +
        "\tvoid __attribute__((address_space(1))) *arena;\n\tvoid *hostile;\n};",
    );
  });

  test("of recursive or endless types is a FormatError", () => {
    const itself = new BtfWriter();
    itself.raw(BTF_KIND.STRUCT, "loop", 4, [0, itself.nextId, 0], 1);
    const anonymous = new BtfWriter();
    anonymous.raw(BTF_KIND.STRUCT, "outer", 4, [0, 2, 0], 1);
    anonymous.raw(BTF_KIND.STRUCT, "", 4, [0, anonymous.nextId, 0], 1);
    const pointers = new BtfWriter();
    pointers.typedef("p", 2);
    pointers.pointer(2);
    const hole = new BtfWriter();
    hole.struct("hole", 0xffff_fff0, [["a", hole.int("int", 4, 1), 0]]);
    for (const writer of [itself, anonymous, pointers, hole]) expect(() => body(writer)).toThrow(FormatError);
  });
});
