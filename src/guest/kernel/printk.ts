/** Reads the kernel's log: `struct printk_ringbuffer *prb` (kernel/printk/printk_ringbuffer.h, since 5.10). */
import { at, bits, bytes, i64, place, ptr, struct, u8, u16, u32, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import { type KernelLog, LogBuilder, type LogRecord } from "../../kernel-log.ts";
import { cutAtNul } from "../../uapi/layout.ts";
import { GuestFault } from "../memory/fault.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { add, distance, isNull, type Pointer } from "../memory/pointer.ts";
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
/**
 * `enum desc_state` is in the top two bits of `state_var`; the others are the descriptor's id. The shift and the mask are for the
 * upper word.
 */
const STATE_SHIFT = 30;
const ID_MASK_HI = (1 << STATE_SHIFT) - 1;
const FINALIZED = 2;
const REUSABLE = 3;
/** Bit 0 of a position is set if the record has no data block. Empty lines have this value in both positions. */
const EMPTY_LINE = 3;
/** A data block starts with the id of its descriptor. */
const BLOCK_ID_BYTES = 8;
/** Set in `caller_id` if it is the CPU of an interrupt, not a task's pid (kernel/printk/printk.c, printk_caller_id). */
const CALLER_IS_CPU = 0x8000_0000;

/**
 * Returns every finalized record, oldest first, like `prb_read_valid`. Descriptors that were being written, and records whose
 * text position is not valid, are counted as torn. Throws `KtstrError` if the kernel has no such ring (before 5.10) or if
 * the ring itself cannot be read.
 */
export function readPrintk(kernel: GuestKernel): KernelLog {
  const ring = new Ring(kernel);
  const log = new LogBuilder();
  let { hi, lo } = ring.tail;
  for (let step = 0; step < ring.used; step++) {
    ring.read(hi, lo, log);
    lo = (lo + 1) | 0;
    if (lo === 0) hi = (hi + 1) & ID_MASK_HI;
  }
  return log.finish();
}

/** Ids and positions are two int32 words, like addresses: a log has thousands of records. */
class Ring {
  /** Id of the oldest descriptor. */
  readonly tail: Pointer;
  /** Number of descriptors from the tail to the head. */
  readonly used: number;
  readonly #memory: GuestMemory;
  readonly #countMask: number;
  readonly #sizeBits: number;
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
    this.#countMask = (1 << countBits) - 1;
    this.#sizeBits = sizeBits;
    this.#descs = ring.pointer(layout.descs, "desc_ring.descs");
    this.#infos = ring.pointer(layout.infos, "desc_ring.infos");
    this.#data = ring.pointer(layout.data, "text_data_ring.data");
    if (isNull(this.#descs) || isNull(this.#infos) || isNull(this.#data))
      throw new KtstrError("read the kernel's log: its ring has no buffers");
    const tail = ring.pointer(layout.tailId, "desc_ring.tail_id");
    const head = ring.pointer(layout.headId, "desc_ring.head_id");
    this.tail = { hi: tail.hi & ID_MASK_HI, lo: tail.lo };
    const between =
      ((head.hi - tail.hi - (head.lo >>> 0 < tail.lo >>> 0 ? 1 : 0)) & ID_MASK_HI) * 2 ** 32 +
      ((head.lo - tail.lo) >>> 0);
    if (between > this.#countMask)
      throw new KtstrError(
        `read the kernel's log: its ring has ${this.#countMask + 1} descriptors, but ${between + 1} are from tail_id to head_id`,
      );
    this.used = between + 1;
  }

  read(idHi: number, idLo: number, log: LogBuilder): void {
    try {
      const record = this.#record(idHi, idLo);
      if (typeof record === "string") log.tear(record);
      else if (record !== undefined) log.add(record);
    } catch (error) {
      if (!(error instanceof GuestFault)) throw error;
      log.tear(`memory ${error.reason}`);
    }
  }

  /** Returns undefined if the descriptor has no record, or a string that says why it cannot be shown. */
  #record(idHi: number, idLo: number): LogRecord | string | undefined {
    const memory = this.#memory;
    const desc = this.#desc;
    const index = idLo & this.#countMask;
    const descAt = this.#locate(this.#descs, index, desc.sizeof, "prb->desc_ring.descs");
    const descs = memory.view;
    const stateHi = descs.getInt32(descAt + desc.state + 4, true);
    const state = stateHi >>> STATE_SHIFT;
    // The descriptor is free: its text may have been overwritten.
    if (state === REUSABLE) return undefined;
    if ((stateHi & ID_MASK_HI) !== idHi || descs.getInt32(descAt + desc.state, true) !== idLo)
      return "id of another descriptor";
    if (state !== FINALIZED) return "not finalized";
    const begin = wordsAt(descs, descAt + desc.begin);
    const next = wordsAt(descs, descAt + desc.next);
    const info = this.#info;
    const infoAt = this.#locate(this.#infos, index, info.sizeof, "prb->desc_ring.infos");
    const infos = memory.view;
    const length = infos.getUint16(infoAt + info.text_len, true);
    // Everything else is read before the text, because reading the text may replace the view.
    const record = this.#recordOf(memory.bytes, infos, infoAt);
    const text = this.#text(begin, next, length, idHi, idLo);
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
  #text(begin: Pointer, next: Pointer, length: number, idHi: number, idLo: number): Uint8Array | string {
    if ((begin.lo & 1) !== 0) return isEmptyLine(begin) && isEmptyLine(next) ? new Uint8Array() : "text lost";
    const size = 2 ** this.#sizeBits;
    const last = add(next, -1);
    const isWhole = this.#isSameWrap(begin, last);
    if (!isWhole && !this.#isSameWrap(add(begin, size), last)) return "text outside of the ring";
    const start = isWhole ? (begin.lo & (size - 1)) >>> 0 : 0;
    const blockBytes = isWhole ? distance(begin, last) + 1 : (next.lo & (size - 1)) >>> 0;
    // Negative if `next` is before `begin`; the block's id then decides.
    if (blockBytes >= 0 && blockBytes < BLOCK_ID_BYTES + length) return "text longer than its block";
    const memory = this.#memory;
    const { hi, lo } = this.#data;
    const at = memory.expect(hi, lo, start, BLOCK_ID_BYTES + length, "prb->text_data_ring.data");
    const { view } = memory;
    if (view.getInt32(at, true) !== idLo || view.getInt32(at + 4, true) !== idHi)
      return "text of another record";
    return memory.bytes.slice(at + BLOCK_ID_BYTES, at + BLOCK_ID_BYTES + length);
  }

  /** `DATA_WRAPS`: whether two positions have the same quotient by the size of the buffer. */
  #isSameWrap(a: Pointer, b: Pointer): boolean {
    return a.hi === b.hi && a.lo >>> this.#sizeBits === b.lo >>> this.#sizeBits;
  }

  #locate({ hi, lo }: Pointer, index: number, size: number, what: string): number {
    return this.#memory.expect(hi, lo, index * size, size, what);
  }
}

const wordsAt = (view: DataView, at: number): Pointer => ({
  hi: view.getInt32(at + 4, true),
  lo: view.getInt32(at, true),
});

const isEmptyLine = ({ hi, lo }: Pointer): boolean => hi === 0 && lo === EMPTY_LINE;

/** Name of messages without a device, which are most messages. */
const NO_NAME = new Uint8Array();

function nameAt(bytes: Uint8Array, at: number, size: number): Uint8Array {
  return bytes[at] === 0 ? NO_NAME : cutAtNul(bytes.slice(at, at + size));
}
