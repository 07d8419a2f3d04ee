import { expect, test } from "bun:test";
import { cpio } from "./cpio.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const archive = cpio([
  { kind: "file", path: "usr/lib/one", data: new Uint8Array([1, 2, 3]), executable: true },
  { kind: "symlink", path: "lib", target: "usr/lib" },
  { kind: "device", path: "dev/console", major: 5, minor: 1 },
]);

/** Header fields of the record at `at`: mode, size, device numbers, name, and where the next one starts. */
function recordAt(at: number): {
  mode: number;
  size: number;
  rdev: [number, number];
  name: string;
  data: number;
  next: number;
} {
  const field = (index: number): number =>
    Number.parseInt(text(archive.subarray(at + 6 + index * 8, at + 14 + index * 8)), 16);
  const nameSize = field(11);
  const data = (at + 110 + nameSize + 3) & ~3;
  const name = text(archive.subarray(at + 110, at + 110 + nameSize - 1));
  return {
    mode: field(1),
    size: field(6),
    rdev: [field(9), field(10)],
    name,
    data,
    next: (data + field(6) + 3) & ~3,
  };
}

test("parents come before what lies in them, once each", () => {
  const names: string[] = [];
  for (let at = 0; names.at(-1) !== "TRAILER!!!"; at = recordAt(at).next) names.push(recordAt(at).name);
  expect(names).toEqual(["usr", "usr/lib", "usr/lib/one", "lib", "dev", "dev/console", "TRAILER!!!"]);
});

test("a record is ASCII hex, padded to four bytes, with its data behind the name", () => {
  expect(text(archive.subarray(0, 6))).toBe("070701");
  let at = 0;
  while (recordAt(at).name !== "usr/lib/one") at = recordAt(at).next;
  const file = recordAt(at);
  expect(file.mode).toBe(0o100755);
  expect([...archive.subarray(file.data, file.data + file.size)]).toEqual([1, 2, 3]);
  const link = recordAt(file.next);
  expect(text(archive.subarray(link.data, link.data + link.size))).toBe("usr/lib");
  const device = recordAt(recordAt(link.next).next);
  expect([device.mode, device.rdev]).toEqual([0o020600, [5, 1]]);
});

const busybox = Bun.which("busybox");
if (busybox === null) console.warn("skipped: busybox is not there");

test.skipIf(busybox === null)("busybox's cpio lists two archives laid one after the other", async () => {
  const second = cpio([{ kind: "file", path: "added", data: new Uint8Array(5) }]);
  for (const [bytes, names] of [
    [archive, ["usr", "usr/lib", "usr/lib/one", "lib", "dev", "dev/console"]],
    [second, ["added"]],
  ] as const) {
    const child = Bun.spawn([busybox ?? "", "cpio", "-t"], {
      stdin: bytes,
      stdout: "pipe",
      stderr: "ignore",
    });
    expect((await child.stdout.text()).trim().split("\n")).toEqual([...names]);
  }
});
