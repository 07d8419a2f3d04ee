/** A page has the same elements for any names that a machine chooses, and no script of a name runs. */
import { expect, test } from "bun:test";
import { HOSTILE, pageWith, recordPageWith } from "./hostile-page.ts";
import { readPage } from "./read-page.ts";

test.each([
  ["a machine", pageWith],
  ["a record", recordPageWith],
] as const)("a name in the page of %s is text: it adds no element and no attribute", async (_, pageOf) => {
  const hostile = await readPage(pageOf((index) => HOSTILE[index % HOSTILE.length]!));
  // Of equal length, so that values take the same number of lines.
  const harmless = await readPage(pageOf((index) => "x".repeat(HOSTILE[index % HOSTILE.length]!.length)));
  const kinds = (elements: readonly string[]): string[] => [...new Set(elements)].sort();
  expect(kinds(hostile.elements)).toEqual(kinds(harmless.elements));
  expect(
    hostile.elements.filter((element) => /^(script|style|meta|title|h2|nav|a href)\b/.test(element)),
  ).toEqual(
    harmless.elements.filter((element) => /^(script|style|meta|title|h2|nav|a href)\b/.test(element)),
  );
  expect(
    hostile.elements.filter((element) => / on|^(img|iframe|object|embed|link|base|form)\b/.test(element)),
  ).toEqual([]);
});

test("every hostile name is shown as text", async () => {
  const { texts } = await readPage(pageWith((index) => HOSTILE[index % HOSTILE.length]!));
  const all = [...texts.values()].join("\n");
  for (const name of HOSTILE.slice(0, 5)) expect(all).toContain(name);
  expect(all).toContain("a\\u{2028}b\\u{2029}c\\u{202e}d");
  expect(all).toContain("two\\x0alines\\x00and \\x1b[31mred");
  expect(all).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e]/);
});

test("the page has one script and one style, and its policy has their hashes", async () => {
  const page = pageWith((index) => HOSTILE[index % HOSTILE.length]!);
  const [, policy = ""] = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page) ?? [];
  expect(policy).toStartWith("default-src &#39;none&#39;;");
  for (const kind of ["script", "style"]) {
    const found = [...page.matchAll(new RegExp(`<${kind}>([^]*?)</${kind}>`, "g"))].map(([, text]) => text!);
    expect(found).toHaveLength(1);
    const hash = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(found[0]!))).toString(
      "base64",
    );
    expect(policy).toContain(`${kind}-src &#39;sha256-${hash}&#39;`);
  }
  expect(policy).not.toContain("unsafe");
  // The policy must come before the elements that it applies to.
  expect(page.indexOf("Content-Security-Policy")).toBeLessThan(page.indexOf("<style>"));
});
