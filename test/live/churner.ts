/**
 * Changes the kernel's BPF state as fast as it can, until it is killed. Arguments: the kind of change, and the paths of the
 * pinned maps to change. Prints "ready" once it has begun.
 *
 *   maps           creates and frees maps whose names begin with "churn"
 *   keys PATH...   adds and deletes keys from 1,000,000 on
 *   grow PATH      adds keys without end, from 1,000,000 on
 */
import { bpf, close } from "../../src/ffi.ts";
import { Attr } from "../../src/live/attr.ts";
import { pinned } from "../../src/live/objects.ts";
import { COMMANDS, ELEMENT_ATTR, MAP_CREATE_ATTR, OBJ_ATTR } from "../../src/uapi/bpf.ts";
import { must, text } from "./kit.ts";

const FIRST_KEY = 1_000_000;
const KEYS = 2000;

const [what = "", ...paths] = process.argv.slice(2);

function openMap(path: string): number {
  return must("BPF_OBJ_GET", new Attr(OBJ_ATTR).point("pathname", text(path)), path);
}

function churnMaps(): void {
  const fds: number[] = [];
  for (let n = 0; n < 100; n++) {
    const attr = new Attr(MAP_CREATE_ATTR, { map_type: 2, key_size: 4, value_size: 8, max_entries: 1 });
    fds.push(must("BPF_MAP_CREATE", attr.setBytes("map_name", Buffer.from(`churn${n}`))));
    if (fds.length > 20) close(fds.shift() ?? -1);
  }
  for (const fd of fds) close(fd);
}

const key = pinned(64);
const value = pinned(4096);
const keyView = new DataView(key.buffer);

/** A full map, or a key that is already deleted, is not a failure here. */
function change(fd: number, command: "BPF_MAP_UPDATE_ELEM" | "BPF_MAP_DELETE_ELEM", number: number): void {
  keyView.setUint32(0, 32, true); // an LPM trie's prefix length; else the key's low half
  keyView.setUint32(4, number, true);
  const attr = new Attr(ELEMENT_ATTR, { map_fd: fd }).point("key", key);
  bpf(COMMANDS[command], (command === "BPF_MAP_UPDATE_ELEM" ? attr.point("value", value) : attr).bytes);
}

function churnKeys(fds: readonly number[]): void {
  for (const command of ["BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM"] as const) {
    for (let n = 0; n < KEYS; n++) for (const fd of fds) change(fd, command, FIRST_KEY + n);
  }
}

const fds = paths.map(openMap);
process.stdout.write("ready\n");
for (let round = 0; ; round++) {
  if (what === "maps") churnMaps();
  else if (what === "keys") churnKeys(fds);
  else if (what === "grow") for (const fd of fds) change(fd, "BPF_MAP_UPDATE_ELEM", FIRST_KEY + round);
  else throw new Error(`${what}: maps, keys or grow`);
}
