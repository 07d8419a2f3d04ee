/** Reads the kernel's log: `struct printk_ringbuffer *prb` (kernel/printk/printk_ringbuffer.h, since 5.10). */
import { at, bits, bytes, i64, place, ptr, struct, u8, u16, u32, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import { type KernelLog, LogBuilder, type LogRecord } from "../../kernel-log.ts";
import { cutAtNul, viewOf } from "../../uapi/layout.ts";
import { GuestFault } from "../memory/fault.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";
import type { GuestKernel } from "./kernel.ts";
import { StructAt } from "./struct-at.ts";
import { requireSymbol } from "./symbols.ts";

const RINGBUFFER = struct("printk_ringbuffer", {
  countBits: at(u32, "desc_ring.count_bits"),
  descs: at(ptr, "desc_ring.descs"),
  infos: at(ptr, "desc_ring.infos"),
  headId: at(i64, "desc_ring.head_id.counter"),
  tailId: at(i64, "desc_ring.tail_id.counter"),
  sizeBits: at(u32, "text_data_ring.size_bits"),
  data: at(ptr, "text_data_ring.data"),
});
const DESC = struct("prb_desc", {
  state: at(i64, "state_var.counter"),
  begin: at(u64, "text_blk_lpos.begin"),
  next: at(u64, "text_blk_lpos.next"),
});
const SUBSYSTEM_BYTES = 16;
const DEVICE_BYTES = 48;
const INFO = struct("printk_info", {
  seq: u64,
  ts_nsec: u64,
  text_len: u16,
  facility: u8,
  level: bits(3),
  caller_id: u32,
  dev_info: place,
  subsystem: at(bytes(SUBSYSTEM_BYTES), "dev_info.subsystem"),
  device: at(bytes(DEVICE_BYTES), "dev_info.device"),
});

/** CONFIG_LOG_BUF_SHIFT is at most 25, and there is one descriptor per 32 bytes of text (PRB_AVGBITS). */
const MAX_COUNT_BITS = 20;
/** LOG_BUF_LEN_MAX is 2^31 bytes. */
const MAX_SIZE_BITS = 31;
/** `enum desc_state`, in the top two bits of `state_var`; the others are the descriptor's id. */
const STATE_SHIFT = 62n;
const ID_MASK = (1n << STATE_SHIFT) - 1n;
const FINALIZED = 2n;
const REUSABLE = 3n;
/** Bit 0 of a position is set if the record has no data block. Empty lines have this value in both positions. */
const EMPTY_LINE = 3n;
/** A data block starts with the id of its descriptor. */
const BLOCK_ID_BYTES = 8;
/** `caller_id`: has this bit if it is an interrupt's CPU, not a task's pid (printk_caller_id in kernel/printk/printk.c). */
const CALLER_IS_CPU = 0x8000_0000;

/**
 * Returns every finalized record, oldest first, like `prb_read_valid`. Descriptors that were being written, and records whose
 * text position is not valid, are counted as torn. Throws `KtstrError` if the kernel has no such ring (before 5.10) or if
 * the ring itself cannot be read.
 */
export function readPrintk(kernel: GuestKernel): KernelLog {
  const ring = new Ring(kernel);
  const log = new LogBuilder();
  for (let step = 0n; step < ring.used; step++) ring.read((ring.tail + step) & ID_MASK, log);
  return log.finish();
}

class Ring {
  readonly tail: bigint;
  /** Reads the descriptors from the tail to the head. */
  readonly used: bigint;
  readonly #memory: GuestMemory;
  readonly #countMask: bigint;
  readonly #dataBytes: bigint;
  readonly #descs: Pointer;
  readonly #infos: Pointer;
  readonly #data: Pointer;
  readonly #desc: ReturnType<typeof DESC.resolve>;
  readonly #info: ReturnType<typeof INFO.resolve>;

  constructor({ memory, symbols, btf }: GuestKernel) {
    const variable = requireSymbol(symbols, "prb");
    const layout = RINGBUFFER.resolve(btf);
    this.#desc = DESC.resolve(btf);
    this.#info = INFO.resolve(btf);
    this.#memory = memory;
    const ring = new StructAt(memory, memory.pointer(variable.hi, variable.lo, 0, "prb"), "prb->");
    const countBits = ring.u32(layout.countBits, "desc_ring.count_bits");
    const sizeBits = ring.u32(layout.sizeBits, "text_data_ring.size_bits");
    if (countBits > MAX_COUNT_BITS || sizeBits > MAX_SIZE_BITS)
      throw new KtstrError(
        `read the kernel's log: its ring has 2^${countBits} descriptors and 2^${sizeBits} bytes, which is not possible`,
      );
    this.#countMask = (1n << BigInt(countBits)) - 1n;
    this.#dataBytes = 1n << BigInt(sizeBits);
    this.#descs = ring.pointer(layout.descs, "desc_ring.descs");
    this.#infos = ring.pointer(layout.infos, "desc_ring.infos");
    this.#data = ring.pointer(layout.data, "text_data_ring.data");
    if (isNull(this.#descs) || isNull(this.#infos) || isNull(this.#data))
      throw new KtstrError("read the kernel's log: its ring has no buffers");
    this.tail = ring.u64(layout.tailId, "desc_ring.tail_id") & ID_MASK;
    const head = ring.u64(layout.headId, "desc_ring.head_id") & ID_MASK;
    const between = (head - this.tail) & ID_MASK;
    if (between > this.#countMask)
      throw new KtstrError(
        `read the kernel's log: its ring has ${this.#countMask + 1n} descriptors, but ${between + 1n} are from tail_id to head_id`,
      );
    this.used = between + 1n;
  }

  read(id: bigint, log: LogBuilder): void {
    const index = Number(id & this.#countMask);
    try {
      const record = this.#record(id, index);
      if (typeof record === "string") log.tear(record);
      else if (record !== undefined) log.add(record);
    } catch (error) {
      if (!(error instanceof GuestFault)) throw error;
      log.tear(`memory ${error.reason}`);
    }
  }

  /** Returns undefined if the descriptor has no record, or a string that says why it cannot be shown. */
  #record(id: bigint, index: number): LogRecord | string | undefined {
    const memory = this.#memory;
    const desc = this.#desc;
    const descAt = this.#locate(this.#descs, index, desc.sizeof, "prb->desc_ring.descs");
    const descs = memory.view;
    const state = descs.getBigUint64(descAt + desc.state, true);
    // The descriptor is free: its text may have been overwritten.
    if (state >> STATE_SHIFT === REUSABLE) return undefined;
    if ((state & ID_MASK) !== id) return "id of another descriptor";
    if (state >> STATE_SHIFT !== FINALIZED) return "not finalized";
    const begin = descs.getBigUint64(descAt + desc.begin, true);
    const next = descs.getBigUint64(descAt + desc.next, true);
    const info = this.#info;
    const infoAt = this.#locate(this.#infos, index, info.sizeof, "prb->desc_ring.infos");
    const infos = memory.view;
    const length = infos.getUint16(infoAt + info.text_len, true);
    // Everything is read before the text: its read may end the view.
    const record = this.#recordOf(memory.bytes, infos, infoAt);
    const text = this.#text(begin, next, length, id);
    return typeof text === "string" ? text : { ...record, text };
  }

  #recordOf(bytes: Uint8Array, view: DataView, at: number): Omit<LogRecord, "text"> {
    const { level, subsystem, device, seq, ts_nsec, facility, caller_id } = this.#info;
    const caller = view.getUint32(at + caller_id, true);
    return {
      seq: view.getBigUint64(at + seq, true),
      timeNs: view.getBigUint64(at + ts_nsec, true),
      level: (view.getUint8(at + (level >>> 3)) >>> (level & 7)) & 7,
      facility: view.getUint8(at + facility),
      caller: caller >= CALLER_IS_CPU ? `C${caller - CALLER_IS_CPU}` : `T${caller}`,
      subsystem: nameAt(bytes, at + subsystem, SUBSYSTEM_BYTES),
      device: nameAt(bytes, at + device, DEVICE_BYTES),
    };
  }

  /** `get_data` and `copy_data`: a block that does not fit before the end of the buffer is stored at its start. */
  #text(begin: bigint, next: bigint, length: number, id: bigint): Uint8Array | string {
    if ((begin & 1n) !== 0n)
      return begin === EMPTY_LINE && next === EMPTY_LINE ? new Uint8Array() : "text lost";
    const size = this.#dataBytes;
    const wrapOf = (position: bigint): bigint => BigInt.asUintN(64, position) / size;
    const last = BigInt.asUintN(64, next - 1n);
    const isWhole = wrapOf(begin) === wrapOf(last);
    if (!isWhole && wrapOf(begin + size) !== wrapOf(last)) return "text outside of the ring";
    const start = isWhole ? begin % size : 0n;
    const blockBytes = isWhole ? BigInt.asUintN(64, next - begin) : next % size;
    if (blockBytes < BigInt(BLOCK_ID_BYTES + length)) return "text longer than its block";
    const what = "prb->text_data_ring.data";
    const block = this.#memory.copy(
      this.#data.hi,
      this.#data.lo,
      Number(start),
      BLOCK_ID_BYTES + length,
      what,
    );
    if (viewOf(block).getBigUint64(0, true) !== id) return "text of another record";
    return block.subarray(BLOCK_ID_BYTES);
  }

  #locate({ hi, lo }: Pointer, index: number, size: number, what: string): number {
    return this.#memory.expect(hi, lo, index * size, size, what);
  }
}

/** Name of messages without a device, which are most messages. */
const NO_NAME = new Uint8Array();

function nameAt(bytes: Uint8Array, at: number, size: number): Uint8Array {
  return bytes[at] === 0 ? NO_NAME : cutAtNul(bytes.slice(at, at + size));
}
