/**
 * Reads kernel memory with a BPF_PROG_TYPE_SYSCALL program that calls `bpf_probe_read_kernel`. Reading an absent page
 * returns an error without a side effect: the copy handles the fault itself (mm/maccess.c, `copy_from_kernel_nofault`), so
 * no fault handler allocates a page.
 */

import { KtstrError } from "../errors.ts";
import type { Fd, Mapping, PinnedBytes } from "../ffi.ts";
import { Fd as OwnedFd } from "../ffi.ts";
import { MAP_CREATE_ATTR, PROG_LOAD_ATTR, TEST_RUN_ATTR } from "../uapi/bpf.ts";
import { EAGAIN, errnoName } from "../uapi/errno.ts";
import {
  addConst,
  BPF_F_SLEEPABLE,
  call,
  exit,
  INSN_BYTES,
  load64,
  loadMap,
  loadMapValue,
  move,
  PROBE_READ_KERNEL,
  set,
  skipIfAbove,
  skipIfAtMost,
  store64,
} from "../uapi/insn.ts";
import { cutAtNul } from "../uapi/layout.ts";
import { BPF_F_MMAPABLE, MapType, ProgType } from "../uapi/names.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import { bpfError, bpfOrThrow, type Sys } from "./sys.ts";

/** One run reads up to `CHUNKS` consecutive chunks. */
export const CHUNK_BYTES = 4096;
export const CHUNKS = 64;

// Layout of the buffer shared with the program: the result of each chunk, the map's address, the chunks.
const MAP_ADDRESS_AT = CHUNKS * 8;
const DATA_AT = CHUNK_BYTES;
const BUFFER_BYTES = DATA_AT + CHUNKS * CHUNK_BYTES;
const LOG_BYTES = 64 * 1024;
/** Number of attempts, as in libbpf (src/bpf.h, `PROG_LOAD_ATTEMPTS`). */
const LOAD_ATTEMPTS = 5;

/** The program's arguments: three u64. */
const CONTEXT_BYTES = 24;

/** The verifier rejected the program; `log` is its output. */
export class PeekRefusedError extends KtstrError {
  readonly log: string;

  constructor(message: string, hint: string, log: string) {
    super(message, { hint });
    this.log = log;
  }
}

export class KernelPeek implements Disposable {
  /** `struct bpf_map *` of the map that the program was loaded with. */
  readonly mapAddress: bigint;
  readonly #sys: Sys;
  readonly #prog: Fd;
  readonly #mapping: Mapping;
  readonly #view: DataView;
  readonly #context: PinnedBytes = pinned(CONTEXT_BYTES);
  readonly #contextView: DataView = new DataView(this.#context.buffer);
  readonly #run: Attr<keyof typeof TEST_RUN_ATTR.fields>;

  private constructor(sys: Sys, prog: Fd, mapping: Mapping) {
    this.#sys = sys;
    this.#prog = prog;
    this.#mapping = mapping;
    this.#view = new DataView(mapping.buffer);
    this.#run = new Attr(TEST_RUN_ATTR, { prog_fd: prog.number, ctx_size_in: CONTEXT_BYTES }).point(
      "ctx_in",
      this.#context,
    );
    this.#execute(0n, 0, 0);
    this.mapAddress = this.#view.getBigUint64(MAP_ADDRESS_AT, true);
  }

  /** Loads the program for one map. Throws `PeekRefusedError` or `SyscallError` (CAP_BPF and CAP_PERFMON, Linux 5.14). */
  static open(sys: Sys, map: Fd): KernelPeek {
    const create = new Attr(MAP_CREATE_ATTR, {
      map_type: MapType.array,
      key_size: 4,
      value_size: BUFFER_BYTES,
      max_entries: 1,
      map_flags: BPF_F_MMAPABLE,
    }).setBytes("map_name", Buffer.from("ktstr_peek"));
    const what = "the buffer for reading kernel memory";
    using buffer = new OwnedFd(bpfOrThrow(sys, "BPF_MAP_CREATE", create, what), what, sys.close);
    using opened = new DisposableStack();
    const prog = opened.use(loadProgram(sys, buffer, map));
    const mapping = sys.mmap({ fd: buffer.number, offset: 0, length: BUFFER_BYTES });
    if (typeof mapping === "number") throw new KtstrError(`mmap ${what}: ${errnoName(-mapping)}`);
    opened.use(mapping);
    const peek = new KernelPeek(sys, prog, mapping); // the constructor runs the program once, which may fail
    opened.move();
    return peek;
  }

  /** Reads at most `CHUNK_BYTES`; undefined if any byte is absent. The view is valid until the next read. */
  read(address: bigint, length: number): DataView | undefined {
    this.#execute(address, 1, length);
    if (this.#view.getBigInt64(0, true) !== 0n) return undefined;
    return new DataView(this.#mapping.buffer, DATA_AT, length);
  }

  /** Reads `count` consecutive chunks, at most `CHUNKS`; `chunk(n)` returns each. */
  readChunks(address: bigint, count: number): void {
    this.#execute(address, count, CHUNK_BYTES);
  }

  /** Returns chunk `n` of the last `readChunks`; undefined if it was absent. Valid until the next read. */
  chunk(n: number): Uint8Array | undefined {
    if (this.#view.getBigInt64(n * 8, true) !== 0n) return undefined;
    return new Uint8Array(this.#mapping.buffer, DATA_AT + n * CHUNK_BYTES, CHUNK_BYTES);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.#prog[Symbol.dispose]();
  }

  #execute(address: bigint, count: number, length: number): void {
    this.#contextView.setBigUint64(0, address, true);
    this.#contextView.setUint32(8, count, true);
    this.#contextView.setUint32(16, length, true);
    bpfOrThrow(this.#sys, "BPF_PROG_TEST_RUN", this.#run, "the program that reads kernel memory");
  }
}

/** `prog(struct { u64 address, count, length; } *ctx)`. The loop is unrolled to keep verification simple. */
function program(buffer: Fd, map: Fd): Uint8Array {
  const perChunk = (index: number): Uint8Array[] => [
    loadMapValue(1, buffer.number, DATA_AT + index * CHUNK_BYTES),
    move(2, 9),
    move(3, 7),
    call(PROBE_READ_KERNEL),
    loadMapValue(1, buffer.number, index * 8),
    store64(1, 0, 0),
    addConst(7, CHUNK_BYTES),
  ];
  const chunkSlots = 9;
  const end = [set(0, 0), exit()];
  const body: Uint8Array[] = [];
  for (let index = 0; index < CHUNKS; index++) {
    const rest = (CHUNKS - 1 - index) * (chunkSlots + 1);
    body.push(skipIfAtMost(8, index, chunkSlots + rest), ...perChunk(index));
  }
  const bodySlots = CHUNKS * (chunkSlots + 1);
  return Buffer.concat([
    move(6, 1),
    loadMap(1, map.number),
    loadMapValue(2, buffer.number, MAP_ADDRESS_AT),
    store64(2, 1, 0),
    load64(7, 6, 0),
    load64(8, 6, 8),
    load64(9, 6, 16),
    skipIfAbove(9, CHUNK_BYTES, bodySlots),
    ...body,
    ...end,
  ]);
}

function loadProgram(sys: Sys, buffer: Fd, map: Fd): Fd {
  const code = program(buffer, map);
  const insns = pinned(code.length);
  insns.set(code);
  const license = pinned(8);
  license.set(Buffer.from("GPL\0"));
  const log = pinned(LOG_BYTES);
  const attr = new Attr(PROG_LOAD_ATTR, {
    prog_type: ProgType.syscall,
    insn_cnt: code.length / INSN_BYTES,
    log_level: 1,
    log_size: LOG_BYTES,
    prog_flags: BPF_F_SLEEPABLE,
  })
    .point("insns", insns)
    .point("license", license)
    .point("log_buf", log)
    .setBytes("prog_name", Buffer.from("ktstr_peek"));
  // The verifier returns EAGAIN if a signal is pending (kernel/bpf/verifier.c, do_check): try again.
  let result = -EAGAIN;
  for (let attempt = 0; attempt < LOAD_ATTEMPTS && result === -EAGAIN; attempt++)
    result = sys.bpf("BPF_PROG_LOAD", attr);
  if (result >= 0) return new OwnedFd(result, "the program that reads kernel memory", sys.close);
  const error = bpfError("BPF_PROG_LOAD", "the program that reads kernel memory", result);
  throw new PeekRefusedError(error.message, error.hint, Buffer.from(cutAtNul(log)).toString("latin1"));
}
