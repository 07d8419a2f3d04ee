import type { GuestMemory } from "../memory/memory.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";

/**
 * A struct in guest memory. Reads take an offset and the member's name, and throw `GuestFault` with the path to the member
 * ("bpf_tracing_link.trampoline->key"). For objects that are read once, not for hot loops.
 */
export class StructAt {
  readonly memory: GuestMemory;
  readonly at: Pointer;
  readonly #path: string;

  /** `path` is the prefix of a member's name: "bpf_link." or "bpf_link.prog->". */
  constructor(memory: GuestMemory, at: Pointer, path: string) {
    this.memory = memory;
    this.at = at;
    this.#path = path;
  }

  get isNull(): boolean {
    return isNull(this.at);
  }

  u8(offset: number, member: string): number {
    return this.memory.u8(this.at.hi, this.at.lo, offset, this.#path + member);
  }

  u32(offset: number, member: string): number {
    return this.memory.u32(this.at.hi, this.at.lo, offset, this.#path + member);
  }

  i32(offset: number, member: string): number {
    return this.memory.i32(this.at.hi, this.at.lo, offset, this.#path + member);
  }

  u64(offset: number, member: string): bigint {
    return this.memory.u64(this.at.hi, this.at.lo, offset, this.#path + member);
  }

  pointer(offset: number, member: string): Pointer {
    return this.memory.pointer(this.at.hi, this.at.lo, offset, this.#path + member);
  }

  /** Returns the struct that a pointer points to. Callers must check for NULL before they read it. */
  follow(offset: number, member: string): StructAt {
    return new StructAt(this.memory, this.pointer(offset, member), `${this.#path}${member}->`);
  }

  /** `container_of`: returns the struct that contains this one at `offset`. */
  outer(offset: number, name: string): StructAt {
    return new StructAt(this.memory, add(this.at, -offset), `${name}.`);
  }

  /** Reads the string that a pointer points to, as UTF-8; "" for NULL. */
  string(offset: number, member: string, maxBytes: number): string {
    const to = this.pointer(offset, member);
    if (isNull(to)) return "";
    return Buffer.from(this.memory.cstring(to.hi, to.lo, 0, maxBytes, this.#path + member)).toString("utf8");
  }

  /** Reads a string stored in the struct, in `size` bytes. */
  inlineString(offset: number, member: string, size: number): string {
    return Buffer.from(
      this.memory.cstring(this.at.hi, this.at.lo, offset, size, this.#path + member),
    ).toString("utf8");
  }
}

/** Converts to a number if that is exact. Both types print the same digits. */
export function exact(value: bigint): number | bigint {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}
