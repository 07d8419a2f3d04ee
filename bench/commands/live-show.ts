/** `map show -j` with 1,000 maps alive: bpftool and ktstr in turn, whole processes. */
import { join } from "node:path";
import { MapType } from "../../src/uapi/names.ts";
import { compareCommands } from "../harness.ts";
import { createMap } from "../maps.ts";

const COUNT = 1000;
const ROUNDS = 21;

const maps = Array.from({ length: COUNT }, (_, index) =>
  createMap(MapType.array, 4, 24, 10, `bench_${index}`),
);
const cli = join(import.meta.dir, "../../src/cli.ts");
await compareCommands(
  [
    { name: "bpftool -j map show", command: ["bpftool", "-j", "map", "show"], into: "/dev/null" },
    { name: "ktstr -j map show", command: [process.execPath, cli, "-j", "map", "show"], into: "/dev/null" },
    { name: "(bun itself)", command: [process.execPath, "-e", "0"], into: "/dev/null" },
  ],
  ROUNDS,
);
for (const { fd } of maps) fd[Symbol.dispose]();
