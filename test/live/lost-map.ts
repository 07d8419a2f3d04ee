/**
 * Keeps a map and a program alive where no tool can find the holder: the map's descriptor is in the queue of a Unix socket,
 * the program filters that socket, and both descriptors were closed. With the word "held" it keeps the descriptors open, too.
 * Prints their ids as JSON, and ends when its input ends.
 */
// biome-ignore lint/style/noRestrictedImports: only this test uses sendmsg; it is not part of ktstr's libc
import { dlopen, ptr } from "bun:ffi";
import { close } from "../../src/ffi.ts";
import { Kit } from "./kit.ts";
import { loadProg } from "./kit-progs.ts";

const names = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`];
const libc = names
  .map((name) => {
    try {
      return dlopen(name, {
        socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
        sendmsg: { args: ["i32", "ptr", "i32"], returns: "i64" },
        setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
      }).symbols;
    } catch {
      return undefined;
    }
  })
  .find((symbols) => symbols !== undefined)!;

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_ATTACH_BPF = 50;

function must(what: string, result: number | bigint): void {
  if (Number(result) < 0) throw new Error(`${what} failed`);
}

using kit = new Kit();
const map = kit.map({ type: "hash", name: "lost_map" });
const prog = loadProg(kit, { type: "socket_filter", name: "lost_prog" });
const ends = new Int32Array(2);
must("socketpair", libc.socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
// The sending end, because the program drops all messages that the receiving end gets.
must("SO_ATTACH_BPF", libc.setsockopt(ends[1]!, SOL_SOCKET, SO_ATTACH_BPF, Int32Array.of(prog.fd), 4));

// `struct cmsghdr` with a descriptor, `struct iovec`, `struct msghdr`.
const control = new DataView(new ArrayBuffer(24));
control.setBigUint64(0, 20n, true);
control.setInt32(8, SOL_SOCKET, true);
control.setInt32(12, SCM_RIGHTS, true);
control.setInt32(16, map.fd, true);
const payload = new Uint8Array(new ArrayBuffer(1));
const vector = new BigUint64Array([BigInt(ptr(payload)), 1n]);
const message = new BigUint64Array([0n, 0n, BigInt(ptr(vector)), 1n, BigInt(ptr(control.buffer)), 24n, 0n]);
must("sendmsg", libc.sendmsg(ends[1]!, message, 0));
if (process.argv[2] !== "held") {
  close(map.fd);
  close(prog.fd);
}
console.log(JSON.stringify({ map: map.id, prog: prog.id }));
for await (const _ of Bun.stdin.stream());
process.exit();
