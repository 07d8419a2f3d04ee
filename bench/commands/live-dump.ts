/**
 * `map dump -j` of a hash of 1,000,000 elements (8-byte keys, 24-byte values) into a file: bpftool, ktstr, and a C
 * program that makes the same batch look-ups and prints nothing, in turn. The two dumps must be the same bytes.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MapType } from "../../src/uapi/names.ts";
import { compareCommands, compileReference, output, scratchFolder } from "../harness.ts";
import { createMap, fillMap } from "../maps.ts";

const COUNT = 1_000_000;
const ROUNDS = 5;

const map = createMap(MapType.hash, 8, 24, COUNT, "bench_hash");
fillMap(map, 8, 24, COUNT);
// Memory, where there is a file system of it: a disk's own speed would drown the difference.
using folder = scratchFolder(existsSync("/dev/shm") ? "/dev/shm" : undefined);
const cli = join(import.meta.dir, "../../src/cli.ts");
const file = (name: string): string => join(folder.path, name);
const id = String(map.id);
await compareCommands(
  [
    {
      name: "bpftool -j map dump",
      command: ["bpftool", "-j", "map", "dump", "id", id],
      into: file("bpftool"),
    },
    {
      name: "ktstr -j map dump",
      command: [process.execPath, cli, "-j", "map", "dump", "id", id],
      into: file("ktstr"),
    },
    {
      name: "C, look-ups alone",
      command: [compileReference("batch_lookup", folder.path), id],
      into: file("floor"),
    },
  ],
  ROUNDS,
);
output("cmp", file("bpftool"), file("ktstr"));
console.log("the two dumps are the same bytes");
