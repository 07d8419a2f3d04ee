/** Every fact of `-j inspect` of the sample is in its page. Exceptions are listed here. */
import { beforeAll, describe, expect, test } from "bun:test";
import { ktstr, parseExact } from "../../live/bpftool.ts";
import { dumpsIn, type ReadPage, readPage } from "./read-page.ts";

type Facts = { readonly [key: string]: unknown };
interface Inspected extends Facts {
  readonly kernel: Facts;
  readonly scheduler: Facts;
  readonly sched: readonly Facts[];
  readonly programs: readonly Facts[];
  readonly links: readonly Facts[];
  readonly maps: readonly Facts[];
  readonly warnings: readonly string[];
}

const LIMIT = "8";
let page = "";
let read: ReadPage;
let inspected: Inspected;

beforeAll(async () => {
  const ran = ktstr(["report", "--sample", "--limit", LIMIT, "-o", "-"]);
  expect(ran).toMatchObject({ status: 0, err: "" });
  page = ran.out;
  read = await readPage(page);
  inspected = parseExact(ktstr(["-j", "inspect", "--sample", "--limit", LIMIT]).out) as Inspected;
});

/** Members that the page intentionally leaves out. Members that it shows in another form are tested below. */
const LEFT_OUT: readonly string[] = [
  "schema", // only in the JSON
  "schema_version",
];
/** Members that have another form in the page, and their own test. */
const TESTED_SEPARATELY: readonly string[] = [
  "entries",
  "records",
  "variables",
  "queues",
  "events",
  "findings",
];

/** Returns all values with their paths. Elements of a list have their own paths. */
function leaves(of: unknown, path: string): (readonly [string, string])[] {
  if (of === null) return [[path, "none"]];
  if (typeof of !== "object") return [[path, String(of)]];
  return Object.entries(of).flatMap(([key, value]) =>
    LEFT_OUT.includes(key) || TESTED_SEPARATELY.includes(key)
      ? []
      : leaves(value, Array.isArray(of) ? path : `${path}.${key}`),
  );
}

/** Returns the facts that are not a word of the text. */
function missing(of: unknown, path: string, id: string): string[] {
  const text = ` ${textOf(id)} `;
  return leaves(of, path)
    .filter(([, value]) => !hasWord(text, value))
    .map(([name, value]) => `${name} ${value}`);
}

const textOf = (id: string): string => {
  const text = read.texts.get(id);
  if (text === undefined) throw new Error(`the page has no ${id}`);
  return text;
};

/** Returns whether the text has the value as a word. The value 20000 may be written "20,000". */
function hasWord(text: string, value: string): boolean {
  if (value === "") return text.includes('""');
  const quoted = value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const word = new RegExp(`(?<![\\w.-])${quoted}(?![\\w])`);
  return word.test(text) || word.test(text.replace(/(?<=\d),(?=\d{3})/g, ""));
}

describe("the page has the facts of `-j inspect`", () => {
  test("of the kernel, with every digit", () => {
    expect(Object.keys(inspected.kernel).length).toBeGreaterThan(7);
    expect(missing(inspected.kernel, "kernel", "kernel")).toEqual([]);
  });

  test("of the scheduler: its programs, maps, mode, watchdog, queues and events", () => {
    expect(missing(inspected.scheduler, "scheduler", "scheduler")).toEqual([]);
    for (const sched of inspected.sched) {
      expect(missing(sched, "sched", "scheduler")).toEqual([]);
      const [queues, events] = [sched["queues"] as Facts[], sched["events"] as Facts];
      expect(queues.length + Object.keys(events).length).toBeGreaterThan(10);
      const text = textOf("scheduler");
      const [, empty = ""] = /empty: ([^\n]*)/.exec(text) ?? [];
      for (const { id, kind, length } of queues)
        if (length === 0) expect([kind, hasWord(empty, String(id))]).toEqual(["user", true]);
        else expect(text).toMatch(new RegExp(`${String(id)}\\s[^\\n]*\\s${kind}\\s+${length}\\s`));
      const [, zero = ""] = /0 of: ([^\n]*)/.exec(text) ?? [];
      for (const [name, count] of Object.entries(events))
        if (count === 0) expect(zero).toContain(name);
        else expect(text.replace(/(?<=\d),(?=\d{3})/g, "")).toMatch(new RegExp(`${name}\\s+${count}\\b`));
    }
  });

  test("of every program", () => {
    expect(inspected.programs.length).toBeGreaterThan(50);
    expect(inspected.programs.flatMap((prog) => missing(prog, "program", `prog-${prog["id"]}`))).toEqual([]);
  });

  test("of every link", () => {
    expect(inspected.links.length).toBeGreaterThan(20);
    expect(inspected.links.flatMap((link) => missing(link, "link", `link-${link["id"]}`))).toEqual([]);
  });

  test("of every map: attributes, number of entries, and parts that could not be read", () => {
    expect(inspected.maps.length).toBeGreaterThan(100);
    for (const { count_is_whole: isWhole, ...map } of inspected.maps) {
      expect(missing(map, "map", `map-${map["id"]}`)).toEqual([]);
      expect(textOf(`map-${map["id"]}`).includes("at least ")).toBe(isWhole !== true);
    }
  });

  test("of every global variable: name, type, offset and value", () => {
    const all = inspected.maps.flatMap(({ id, variables }) =>
      ((variables ?? []) as Facts[]).map((variable) => [id, variable] as const),
    );
    expect(all.length).toBeGreaterThan(20);
    for (const [id, { name, type, offset, value }] of all) {
      const text = textOf(`map-${id}`);
      const cells = text.replace(/\s+/g, " ");
      const start = cells.indexOf(` ${offset} ${name} ${type} `);
      expect([name, start >= 0, absent(cells.slice(start), value)]).toEqual([name, true, []]);
    }
  });

  test("of every entry and record: its bytes, or its typed value", () => {
    let typed = 0;
    let raw = 0;
    for (const map of inspected.maps) {
      if (map["variables"] !== undefined) continue;
      const text = textOf(`map-${map["id"]}`);
      const dumps = new Set(dumpsIn(text));
      const hasBytes = (hex: string): boolean =>
        hex.length <= 64 ? text.includes(hex.replace(/..(?=.)/g, "$& ")) : dumps.has(hex);
      for (const entry of [...(map["entries"] as Facts[]), ...((map["records"] ?? []) as Facts[])]) {
        const { key, value, values, typed_key: typedKey, owner, note, missing: why } = entry;
        const typedValues = [entry["typed_value"] ?? [], entry["typed_values"] ?? []];
        const isTyped = entry["typed_value"] !== undefined || entry["typed_values"] !== undefined;
        // A typed value is not shown as bytes in addition.
        const bytes = isTyped ? [] : [value, ...((values ?? []) as string[])];
        if (typedKey === undefined) bytes.push(key);
        for (const hex of bytes)
          if (typeof hex === "string" && !isTypedRecord(map, entry)) {
            raw++;
            expect([map["name"], hex, hasBytes(hex)]).toEqual([map["name"], hex, true]);
          }
        if (isTyped) typed++;
        expect([
          map["name"],
          absent(text, [typedKey ?? [], typedValues, owner ?? [], note ?? [], why ?? []]),
        ]).toEqual([map["name"], []]);
      }
    }
    expect([typed > 50, raw > 500]).toEqual([true, true]);
  });

  test("of warnings, first", () => {
    const findings = inspected.sched.flatMap((sched) => sched["findings"] as Facts[]);
    expect(findings.length).toBeGreaterThan(0);
    for (const { summary, details, ...finding } of findings) {
      for (const sentence of [summary, ...(details as string[])])
        expect(textOf("findings")).toContain(String(sentence));
      expect(leaves(finding, "finding").length).toBeGreaterThan(3);
      expect(missing(finding, "finding", "findings")).toEqual([]);
    }
    expect(inspected.warnings.length).toBeGreaterThan(0);
    for (const warning of inspected.warnings) expect(textOf("findings")).toContain(warning);
    expect([...read.texts.keys()].filter((id) => !/-\d/.test(id))[0]).toBe("findings");
  });
});

/** For records of a storage map the JSON has only bytes; the page has their typed values. */
const isTypedRecord = (map: Facts, entry: Facts): boolean =>
  map["btf_value_type_id"] !== undefined && entry["typed_value"] === undefined && entry["key"] === undefined;

/** Returns the values of plain data that the text does not have, in the form that text has them. */
function absent(text: string, value: unknown): string[] {
  if (Array.isArray(value)) {
    if (value.length > 0 && value.every((item) => Number.isInteger(item) && item >= -128 && item < 128))
      if (text.includes(characters(value as number[]))) return [];
    return value.flatMap((item) => absent(text, item));
  }
  if (typeof value === "object" && value !== null)
    return Object.entries(value).flatMap(([key, item]) => [
      ...(hasWord(text, key) || key === "" ? [] : [key]),
      ...absent(text, item),
    ]);
  const shown = String(value);
  const quoted = `"${shown.replace(/["\\]/g, "\\$&")}"`;
  const forms = [shown, quoted.replace(/[\0-\x1f\x7f]/g, escaped)];
  if (Number.isInteger(value) || /^\d+$/.test(shown)) forms.push(`0x${BigInt(shown).toString(16)}`);
  if (value === null || value === 0) forms.push("NULL");
  // A struct_ops value has ids of programs in place of functions; the page shows their names.
  forms.push(...inspected.programs.filter(({ id }) => id === value).map(({ name }) => String(name)));
  return forms.some((form) => text.includes(form)) ? [] : [shown];
}

const escaped = (one: string): string => `\\x${one.charCodeAt(0).toString(16).padStart(2, "0")}`;

/** Returns a char array that is not UTF-8 as text, with other bytes than ASCII escaped. */
function characters(bytes: readonly number[]): string {
  const end = bytes.indexOf(0);
  const shown = bytes.slice(0, end < 0 ? undefined : end).map((byte) => {
    const character = String.fromCharCode(byte);
    if (character === "\\" || character === '"') return `\\${character}`;
    return byte >= 0x20 && byte < 0x7f ? character : `\\x${(byte & 0xff).toString(16).padStart(2, "0")}`;
  });
  return `"${shown.join("")}"`;
}

test("the sample's page is no larger than 1 MB", () => {
  expect(page.length).toBeGreaterThan(300_000);
  expect(Buffer.byteLength(page)).toBeLessThan(1_000_000);
});

test("every link in the page points to an element of it", () => {
  const ids = new Set([...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
  const targets = [...page.matchAll(/ href="([^"]*)"/g)].map(([, target]) => target!);
  expect(targets.length).toBeGreaterThan(200);
  expect(targets.filter((target) => !target.startsWith("#") || !ids.has(target.slice(1)))).toEqual([]);
});
