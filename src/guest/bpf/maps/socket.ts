/** Reads sockets in maps: sockmap, sockhash and reuseport arrays show a socket as its cookie. */
import { at, struct, u64 } from "../../../btf/struct.ts";
import { ENOSPC, strerror } from "../../../uapi/errno.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import type { ValueReader } from "./value-reader.ts";

const SOCK = struct("sock", { cookie: at(u64, "__sk_common.skc_cookie.counter") });

/** `sock_map_lookup_sys` and similar functions return ENOSPC for maps whose values are not u64 (net/core/sock_map.c). */
export function socketReader(kernel: GuestKernel, valueSize: number): ValueReader {
  return new SocketReader(kernel.memory, SOCK.resolve(kernel.btf).cookie, valueSize === 8);
}

class SocketReader implements ValueReader {
  readonly inlineBytes = 8;
  missing = "";
  readonly bytes: Uint8Array = new Uint8Array(8);
  readonly #memory: GuestMemory;
  readonly #cookieAt: number;
  readonly #hasRoom: boolean;

  constructor(memory: GuestMemory, cookieAt: number, hasRoom: boolean) {
    this.#memory = memory;
    this.#cookieAt = cookieAt;
    this.#hasRoom = hasRoom;
  }

  read(_source: Uint8Array, view: DataView, at: number): boolean {
    this.missing = this.#hasRoom ? "" : strerror(ENOSPC);
    if (!this.#hasRoom) return true;
    const hi = view.getInt32(at + 4, true);
    const from = this.#memory.locate(hi, view.getInt32(at, true), this.#cookieAt, 8);
    if (from < 0) return false;
    this.bytes.set(this.#memory.bytes.subarray(from, from + 8));
    // A socket gets its cookie when it is first requested (net/core/sock_diag.c, __sock_gen_cookie).
    if (this.bytes.every((byte) => byte === 0)) this.missing = "the socket has no cookie yet";
    return true;
  }
}
