/** Reading of `/proc/kallsyms` for the listing of links. */
import { expect, test } from "bun:test";
import { symbolsAt } from "../../src/live/kallsyms.ts";
import { realSys, type Sys } from "../../src/live/sys.ts";

const TEXT = [
  "ffffffff81000000 T _stext",
  "ffffffff81000000 T _text",
  "ffffffff81000010 t ksys_read",
  "ffffffff81000014 t inside",
  "ffffffffc0000100 t dummy_xmit\t[dummy]",
  "",
].join("\n");

const sys: Sys = { ...realSys, readFile: () => Buffer.from(TEXT) };

test("of several names at one address the first is used, and the module's name is separate", () => {
  const found = symbolsAt(sys, [0xffffffff81000000n, 0xffffffffc0000100n]);
  expect(found.get(0xffffffff81000000n)).toEqual({ name: "_stext", module: null });
  expect(found.get(0xffffffffc0000100n)).toEqual({ name: "dummy_xmit", module: "dummy" });
});

test("a probe after a function's endbr belongs to the function, unless another symbol begins there", () => {
  const found = symbolsAt(sys, [0xffffffffc0000104n, 0xffffffff81000014n]);
  expect(found.get(0xffffffffc0000104n)?.name).toBe("dummy_xmit");
  expect(found.get(0xffffffff81000014n)?.name).toBe("inside");
});

test("an address at which no symbol begins has no name, and without addresses nothing is read", () => {
  expect(symbolsAt(sys, [0x1234n]).size).toBe(0);
  const unread: Sys = { ...realSys, readFile: () => expect.unreachable() as never };
  expect(symbolsAt(unread, []).size).toBe(0);
});
