/** Lists programs: `struct idr prog_idr` -> every `struct bpf_prog`, with the answers of `bpf_prog_get_info_by_fd`. */
import type { Btf } from "../../btf/btf.ts";
import { at, bits, bytes, i64, optional, ptr, struct, u8, u16, u32, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { ProgInfo } from "../../state.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import { cutAtNul } from "../../uapi/layout.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { attempt, listObjects, type Warn } from "../kernel/listing.ts";
import type { WalkLog } from "../kernel/walklog.ts";
import { isNull, NULL, type Pointer, toBigInt } from "../memory/pointer.ts";
import { type Offload, readOffload } from "./offload.ts";
import { StatsReader } from "./stats.ts";

const PROG = struct("bpf_prog", {
  pages: u16,
  jited: bits(1),
  gpl_compatible: bits(1),
  type: u32,
  len: u32,
  jited_len: u32,
  tag: bytes(8),
  stats: optional(ptr, "since 5.12; before, bpf_prog_aux.stats"),
  aux: ptr,
});

const AUX = struct("bpf_prog_aux", {
  refcnt: at(i64, "refcnt.counter"),
  id: u32,
  name: bytes(16),
  used_map_cnt: u32,
  used_maps: ptr,
  func_cnt: u32,
  func: ptr,
  user: ptr,
  load_time: u64,
  verified_insns: optional(u32, "since 5.16"),
  attach_btf_id: u32,
  attach_btf: optional(ptr, "since 5.11; before, only the kernel's own types"),
  dst_prog: ptr,
  btf: ptr,
  func_info: ptr,
  func_info_cnt: u32,
  offload_requested: u8,
  offload: ptr,
  stats: optional(ptr, "until 5.11"),
});

const USER = struct("user_struct", { uid: at(u32, "uid.val") });
const MAP = struct("bpf_map", { id: u32 });
const BTF = struct("btf", { id: u32 });
const FUNC_INFO = struct("bpf_func_info", { type_id: u32 });

const NAME_BYTES = 16;
const TAG_BYTES = 8;
/** `struct bpf_insn`. */
const INSN_BYTES = 8;
/** include/linux/bpf_verifier.h: `MAX_USED_MAPS`. */
const MAX_USED_MAPS = 64;
/** include/linux/bpf_verifier.h: `BPF_MAX_SUBPROGS`. */
const MAX_SUBPROGS = 256;

/** Returns the types of a BTF object (`struct btf *`). Throws `KtstrError` if they cannot be read. */
export type BtfAt = (btf: Pointer) => Btf;

/**
 * Returns every program, by ascending id. A program that is being freed is left out, like in the kernel. Throws `LayoutError`
 * if this kernel's structs are not supported.
 */
export function listProgs(kernel: GuestKernel, btfAt: BtfAt, warn: Warn): ProgInfo[] {
  const reader = new ProgReader(kernel, btfAt);
  return listObjects(kernel, "prog_idr", "program", (at, id, log) => reader.read(at, id, log), warn);
}

/** `bpf_prog.aux->id`, 0 for NULL. Throws `GuestFault`. */
export function progId(kernel: GuestKernel, prog: Pointer, path: string): number {
  if (isNull(prog)) return 0;
  const { aux: auxOffset } = PROG.resolve(kernel.btf);
  const aux = kernel.memory.pointer(prog.hi, prog.lo, auxOffset, `${path}->aux`);
  return kernel.memory.u32(aux.hi, aux.lo, AUX.resolve(kernel.btf).id, `${path}->aux->id`);
}

/** Returns the per-CPU address of a program's counters (`struct bpf_prog_stats __percpu *`). Throws `GuestFault`. */
export function statsOf({ memory, btf }: GuestKernel, prog: Pointer): Pointer {
  const { stats, aux: auxAt } = PROG.resolve(btf);
  if (stats !== undefined) return memory.pointer(prog.hi, prog.lo, stats, "bpf_prog.stats");
  const before = AUX.resolve(btf).stats;
  if (before === undefined) return NULL;
  const aux = memory.pointer(prog.hi, prog.lo, auxAt, "bpf_prog.aux");
  return memory.pointer(aux.hi, aux.lo, before, "bpf_prog.aux->stats");
}

/** `bpf_prog.type`. Throws `GuestFault`. */
export function progType(kernel: GuestKernel, prog: Pointer, path: string): number {
  return kernel.memory.u32(prog.hi, prog.lo, PROG.resolve(kernel.btf).type, `${path}->type`);
}

/** Reads programs one by one. */
export class ProgReader {
  readonly #kernel: GuestKernel;
  readonly #btfAt: BtfAt;
  readonly #stats: StatsReader;
  readonly #prog;
  readonly #aux;
  readonly #mapId: number;
  readonly #btfId: number;
  readonly #uid: number;

  /** Throws `LayoutError` if this kernel's structs are not supported. */
  constructor(kernel: GuestKernel, btfAt: BtfAt) {
    this.#kernel = kernel;
    this.#btfAt = btfAt;
    this.#stats = new StatsReader(kernel);
    this.#prog = PROG.resolve(kernel.btf);
    this.#aux = AUX.resolve(kernel.btf);
    this.#mapId = MAP.resolve(kernel.btf).id;
    this.#btfId = BTF.resolve(kernel.btf).id;
    this.#uid = USER.resolve(kernel.btf).uid;
  }

  /** Returns a reason if the program is left out. Throws `GuestFault` if the program itself is not in the image. */
  read(prog: Pointer, id: number, log: WalkLog): ProgInfo | string {
    const { memory } = this.#kernel;
    const layout = this.#prog;
    const auxLayout = this.#aux;
    const bytes = memory.copy(prog.hi, prog.lo, 0, layout.sizeof, "bpf_prog");
    const view = new DataView(bytes.buffer);
    const aux = pointerIn(view, layout.aux);
    const auxBytes = memory.copy(aux.hi, aux.lo, 0, auxLayout.sizeof, "bpf_prog.aux");
    const auxView = new DataView(auxBytes.buffer);
    if (auxView.getUint32(auxLayout.id, true) !== id) return "its id member differs";
    if (auxView.getBigInt64(auxLayout.refcnt, true) <= 0n) return "being freed";

    const part = <T>(what: string, instead: T, read: () => T): T =>
      attempt(log, `program ${id}, ${what}`, instead, read);
    const name = cutAtNul(auxBytes.subarray(auxLayout.name, auxLayout.name + NAME_BYTES));
    const stats = this.#statsOf(view, auxView);
    const offload = part("its device", undefined, () => this.#offload(auxView));
    const jitedBytes =
      offload?.jitedBytes ?? part("its jited size", 0, () => this.#jitedBytes(view, auxView));
    return {
      id,
      type: view.getUint32(layout.type, true),
      name,
      fullName: part("its whole name", name, () => this.#fullName(auxView, name)),
      tag: bytes.subarray(layout.tag, layout.tag + TAG_BYTES),
      gplCompatible: bitIn(view, layout.gpl_compatible),
      loadTimeNs: auxView.getBigUint64(auxLayout.load_time, true),
      createdByUid: part("its creator", 0, () => this.#creator(auxView)),
      device: offload?.device,
      mapIds: part("its maps", [], () => this.#mapIds(id, aux, auxView, log)),
      btfId: part("its BTF", 0, () => this.#btfIdAt(pointerIn(auxView, auxLayout.btf), "bpf_prog.aux->btf")),
      attachBtfObjId: part("its target's BTF", 0, () => this.#targetBtfId(auxView)),
      attachBtfId: auxView.getUint32(auxLayout.attach_btf_id, true),
      translatedBytes: view.getUint32(layout.len, true) * INSN_BYTES,
      jitedBytes,
      jited: jitedBytes > 0,
      memlockBytes: view.getUint16(layout.pages, true) * 2 ** memory.tables.mode.pageShift,
      verifiedInsns:
        auxLayout.verified_insns === undefined
          ? undefined
          : auxView.getUint32(auxLayout.verified_insns, true),
      stats: this.#stats.read(stats.hi, stats.lo),
      address: toBigInt(prog.hi, prog.lo),
    };
  }

  #statsOf(view: DataView, auxView: DataView): Pointer {
    const { stats } = this.#prog;
    if (stats !== undefined) return pointerIn(view, stats);
    const { stats: before } = this.#aux;
    return before === undefined ? NULL : pointerIn(auxView, before);
  }

  #offload(auxView: DataView): Offload | undefined {
    if (auxView.getUint8(this.#aux.offload_requested) === 0) return undefined;
    return readOffload(this.#kernel, pointerIn(auxView, this.#aux.offload));
  }

  /** `btf->id`, 0 for NULL. */
  #btfIdAt(btf: Pointer, path: string): number {
    return isNull(btf) ? 0 : this.#kernel.memory.u32(btf.hi, btf.lo, this.#btfId, `${path}->id`);
  }

  /**
   * Reads `used_maps`, `used_map_cnt` of them, in the kernel's order. The pointer is read before the count, so that an
   * inconsistent pair gives a short list.
   */
  #mapIds(id: number, aux: Pointer, auxView: DataView, log: WalkLog): number[] {
    const { memory } = this.#kernel;
    const list = pointerIn(auxView, this.#aux.used_maps);
    const claimed = memory.u32(aux.hi, aux.lo, this.#aux.used_map_cnt, "bpf_prog.aux->used_map_cnt");
    if (isNull(list) || claimed === 0) return [];
    const count = Math.min(claimed, MAX_USED_MAPS);
    if (count < claimed)
      log.skip(
        "more maps than the kernel allows",
        `program ${id}: used_map_cnt is ${claimed}, at most ${count}`,
      );
    const ids: number[] = [];
    for (let index = 0; index < count; index++) {
      const path = `bpf_prog.aux->used_maps[${index}]`;
      const map = memory.pointer(list.hi, list.lo, index * 8, path);
      if (!isNull(map)) ids.push(memory.u32(map.hi, map.lo, this.#mapId, `${path}->id`));
    }
    return ids;
  }

  /** The code of a program with several functions is in those (`func[]`), not in the program itself. */
  #jitedBytes(view: DataView, auxView: DataView): number {
    const { memory } = this.#kernel;
    const count = auxView.getUint32(this.#aux.func_cnt, true);
    if (count === 0) return view.getUint32(this.#prog.jited_len, true);
    if (count > MAX_SUBPROGS)
      throw new KtstrError(`func_cnt is ${count}; the kernel allows at most ${MAX_SUBPROGS}`);
    const list = pointerIn(auxView, this.#aux.func);
    let sum = 0;
    for (let index = 0; index < count; index++) {
      const path = `bpf_prog.aux->func[${index}]`;
      const func = memory.pointer(list.hi, list.lo, index * 8, path);
      sum += memory.u32(func.hi, func.lo, this.#prog.jited_len, `${path}->jited_len`);
    }
    return sum >>> 0;
  }

  #creator(auxView: DataView): number {
    const user = pointerIn(auxView, this.#aux.user);
    return this.#kernel.memory.u32(user.hi, user.lo, this.#uid, "bpf_prog.aux->user->uid");
  }

  /** kernel/bpf/btf.c, `bpf_prog_get_target_btf`: the target program's BTF, else the kernel's or a module's. */
  #targetBtfId(auxView: DataView): number {
    const { memory } = this.#kernel;
    const target = pointerIn(auxView, this.#aux.dst_prog);
    const { attach_btf } = this.#aux;
    if (isNull(target))
      return attach_btf === undefined
        ? 0
        : this.#btfIdAt(pointerIn(auxView, attach_btf), "bpf_prog.aux->attach_btf");
    const aux = memory.pointer(target.hi, target.lo, this.#prog.aux, "bpf_prog.aux->dst_prog->aux");
    const btf = memory.pointer(aux.hi, aux.lo, this.#aux.btf, "bpf_prog.aux->dst_prog->aux->btf");
    return this.#btfIdAt(btf, "bpf_prog.aux->dst_prog->aux->btf");
  }

  /** The kernel stores 15 bytes of a name. The full name is that of the first function in the program's BTF. */
  #fullName(auxView: DataView, name: Uint8Array): Uint8Array {
    const btf = pointerIn(auxView, this.#aux.btf);
    const info = pointerIn(auxView, this.#aux.func_info);
    const count = auxView.getUint32(this.#aux.func_info_cnt, true);
    if (name.length < NAME_BYTES - 1 || isNull(btf) || isNull(info) || count === 0) return name;
    const { type_id } = FUNC_INFO.resolve(this.#kernel.btf);
    const typeId = this.#kernel.memory.u32(info.hi, info.lo, type_id, "bpf_prog.aux->func_info[0].type_id");
    const types = this.#btfAt(btf);
    if (types.kind(typeId) !== BTF_KIND.FUNC) return name;
    const whole = types.nameBytes(typeId);
    return name.every((byte, index) => whole[index] === byte) ? whole : name;
  }
}

function pointerIn(view: DataView, offset: number): Pointer {
  return { hi: view.getInt32(offset + 4, true), lo: view.getInt32(offset, true) };
}

/** Reads a bit-field of one bit, by its offset in bits. */
function bitIn(view: DataView, offset: number): boolean {
  return ((view.getUint8(offset >>> 3) >>> (offset & 7)) & 1) === 1;
}
