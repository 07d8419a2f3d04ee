/** Writing to a terminal that is full. */
import { expect, test } from "bun:test";
import { write } from "../../src/commands/screen.ts";

test("after a partial write and EAGAIN, only the rest is written again", () => {
  const written: string[] = [];
  const now = (bytes: Uint8Array): number => {
    if (written.length > 0) throw Object.assign(new Error("EAGAIN"), { code: "EAGAIN" });
    written.push(Buffer.from(bytes.subarray(0, 4)).toString());
    return 4;
  };
  write("abcdefgh", now, (bytes) => written.push(Buffer.from(bytes).toString()));
  expect(written).toEqual(["abcd", "efgh"]);
});
