/**
 * Reads a program's code from `struct bpf_prog`, like `bpf_insn_prepare_dump` and `bpf_prog_get_info_by_fd`
 * (kernel/bpf/syscall.c).
 */
import { place, ptr, struct, u8, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import {
  type CallTargets,
  calledAddresses,
  type FunctionInfo,
  LINE_WORDS,
  type ProgCode,
} from "../../prog-code.ts";
import type { MapInfo, ProgInfo } from "../../state.ts";
import {
  CALL,
  CALL_ARGS,
  insnAt,
  LOAD_IMM64,
  PSEUDO_CALL,
  PSEUDO_MAP_FD,
  PSEUDO_MAP_VALUE,
  plainAccess,
  TAIL_CALL,
  TAIL_CALL_HELPER,
} from "../../uapi/disasm.ts";
import { viewOf } from "../../uapi/layout.ts";
import { MapType } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { AddressNames } from "../kernel/names-at.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { GuestFault } from "../memory/fault.ts";
import { LOCATE_MAX_BYTES } from "../memory/memory.ts";
import { fromBigInt, isNull, type Pointer, toBigInt } from "../memory/pointer.ts";

const PROG = struct("bpf_prog", { len: u32, aux: ptr, bpf_func: ptr, insnsi: place });
const AUX = struct("bpf_prog_aux", {
  func_cnt: u32,
  func: ptr,
  func_info: ptr,
  func_info_cnt: u32,
  linfo: ptr,
  nr_linfo: u32,
  jited_linfo: ptr,
  offload_requested: u8,
});

const INSN_BYTES = 8;
const FUNC_INFO_BYTES = 8;
const LINE_INFO_BYTES = 4 * LINE_WORDS;
/** Limit: the verifier accepts 1,000,000 instructions (BPF_COMPLEXITY_LIMIT_INSNS), and can replace one by several. */
const MAX_INSNS = 2 ** 22;
/** include/linux/bpf_verifier.h: `BPF_MAX_SUBPROGS`. */
export const MAX_SUBPROGS = 256;

/** `maps` are the maps that the program uses, in its order. Throws `GuestFault`, `KtstrError`. */
export function readProgCode(kernel: GuestKernel, prog: ProgInfo, maps: readonly MapInfo[]): ProgCode {
  const { memory, btf } = kernel;
  const layout = PROG.resolve(btf);
  const auxLayout = AUX.resolve(btf);
  const own = new StructAt(memory, fromBigInt(prog.address ?? 0n), "bpf_prog.");
  const aux = own.follow(layout.aux, "aux");
  const insnCount = bounded("len", own.u32(layout.len, "len"), MAX_INSNS);
  const insns = copy(kernel, own.at, layout.insnsi, insnCount * INSN_BYTES, "bpf_prog.insnsi");

  const functionCount = bounded("func_cnt", aux.u32(auxLayout.func_cnt, "func_cnt"), MAX_SUBPROGS);
  const list = functionCount > 0 ? aux.follow(auxLayout.func, "func") : undefined;
  const functions = Array.from({ length: functionCount }, (_, index) =>
    list!.follow(index * 8, `[${index}]`),
  );
  const isOffloaded = aux.u8(auxLayout.offload_requested, "offload_requested") !== 0;
  const addressOf = (one: StructAt): bigint => {
    const { hi, lo } = one.pointer(layout.bpf_func, "bpf_func");
    return toBigInt(hi, lo);
  };
  prepareDump(insns, maps, startsOf(functions, layout.len));
  const infoCount = bounded("func_info_cnt", aux.u32(auxLayout.func_info_cnt, "func_info_cnt"), MAX_SUBPROGS);
  const lineCount = bounded("nr_linfo", aux.u32(auxLayout.nr_linfo, "nr_linfo"), MAX_INSNS);
  const lines = copy(
    kernel,
    aux.pointer(auxLayout.linfo, "linfo"),
    0,
    lineCount * LINE_INFO_BYTES,
    "bpf_prog.aux->linfo",
  );
  const info = copy(
    kernel,
    aux.pointer(auxLayout.func_info, "func_info"),
    0,
    infoCount * FUNC_INFO_BYTES,
    "bpf_prog.aux->func_info",
  );
  return {
    insns,
    functions: functionsIn(info),
    lines: new Uint32Array(lines.buffer, 0, lineCount * LINE_WORDS),
    lineAddresses: lineAddresses(kernel, aux.pointer(auxLayout.jited_linfo, "jited_linfo"), lineCount),
    functionAddresses: isOffloaded ? [] : (functionCount > 0 ? functions : [own]).map(addressOf),
    functionCount: isOffloaded ? 0 : functionCount || 1,
  };
}

/** Reads `jited_linfo`; empty if it cannot be read, as in captures by older versions. */
function lineAddresses(kernel: GuestKernel, from: Pointer, count: number): bigint[] {
  if (isNull(from)) return [];
  try {
    return [...new BigUint64Array(copy(kernel, from, 0, count * 8, "bpf_prog.aux->jited_linfo").buffer)];
  } catch (error) {
    if (error instanceof GuestFault) return [];
    throw error;
  }
}

/** Returns `value`. Throws `KtstrError` if it exceeds `most`. */
export function bounded(what: string, value: number, most: number): number {
  if (value <= most) return value;
  throw new KtstrError(`its ${what} is ${value}; the kernel allows at most ${most}`);
}

/** Copies any number of bytes into a new buffer. Throws `GuestFault`. */
export function copy(
  { memory }: GuestKernel,
  from: Pointer,
  offset: number,
  length: number,
  path: string,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; done += LOCATE_MAX_BYTES) {
    const piece = Math.min(LOCATE_MAX_BYTES, length - done);
    bytes.set(memory.copy(from.hi, from.lo, offset + done, piece, path), done);
  }
  return bytes;
}

function functionsIn(bytes: Uint8Array): FunctionInfo[] {
  const words = viewOf(bytes);
  return Array.from({ length: bytes.length / FUNC_INFO_BYTES }, (_, index) => ({
    insn: words.getUint32(index * FUNC_INFO_BYTES, true),
    typeId: words.getUint32(index * FUNC_INFO_BYTES + 4, true),
  }));
}

/** Returns the offset of each function in the whole program (kernel/bpf/fixups.c, `jit_subprogs`: `func[i]->len`). */
function startsOf(functions: readonly StructAt[], len: number): number[] {
  const starts: number[] = [];
  let next = 0;
  for (const func of functions) {
    starts.push(next);
    next += func.u32(len, "len");
  }
  return starts;
}

/** `bpf_insn_prepare_dump`: replaces kernel-internal instructions by those that were loaded. */
function prepareDump(
  bytes: Uint8Array<ArrayBuffer>,
  maps: readonly MapInfo[],
  starts: readonly number[],
): void {
  const view = viewOf(bytes);
  const count = bytes.length / INSN_BYTES;
  const findMap = mapFinder(maps);
  for (let index = 0; index < count; index++) {
    const at = index * INSN_BYTES;
    const code = view.getUint8(at);
    switch (code) {
      case TAIL_CALL:
        view.setUint8(at, CALL);
        view.setInt32(at + 4, TAIL_CALL_HELPER, true);
        break;
      case CALL_ARGS:
        view.setUint8(at, CALL);
        break;
      case CALL:
        if (view.getUint8(at + 1) >> 4 === PSEUDO_CALL) restoreCall(view, index, starts);
        break;
      case LOAD_IMM64: {
        const { immediate, next } = insnAt(view, index);
        const found =
          index + 1 < count ? findMap(BigInt(next >>> 0) * 2n ** 32n + BigInt(immediate >>> 0)) : undefined;
        if (found !== undefined) {
          view.setUint8(at + 1, (view.getUint8(at + 1) & 15) | (found.source << 4));
          view.setUint32(at + 4, found.id, true);
          view.setUint32(at + 12, found.offset, true);
        }
        break;
      }
      default:
        view.setUint8(at, plainAccess(code));
    }
    // Like the kernel, this also checks the second half of an immediate: its code is 0.
  }
}

/**
 * In a dump, a call of one of the program's functions has the distance in `off` and the function's number in `imm`. It is
 * stored like this up to 7.1, and with the two swapped since then (`prepare_dump_pseudo_call`). The functions' offsets show
 * which of the two forms it has.
 */
function restoreCall(view: DataView, index: number, starts: readonly number[]): void {
  const { offset, immediate } = insnAt(view, index);
  if (starts[immediate] === index + offset + 1 || starts[offset] !== index + immediate + 1) return;
  const at = index * INSN_BYTES;
  view.setInt32(at + 4, offset, true);
  view.setInt16(at + 2, immediate > 0x7fff || immediate < -0x8000 ? 0 : immediate, true);
}

interface MapReference {
  readonly source: number;
  readonly id: number;
  readonly offset: number;
}

/** `bpf_map_from_imm`: finds the map at an address, or the one-element array whose value contains it. */
function mapFinder(maps: readonly MapInfo[]): (address: bigint) => MapReference | undefined {
  const places = maps.map(({ id, type, maxEntries, valueSize, location }) => ({
    id,
    at: location?.address,
    // array_map_direct_value_meta: `elem_size` is the value size, rounded up.
    value: type === MapType.array && maxEntries === 1 ? location?.valueAddress : undefined,
    bytes: BigInt(Math.ceil(valueSize / 8) * 8),
  }));
  return (address) => {
    for (const { id, at, value, bytes } of places) {
      if (address === at) return { source: PSEUDO_MAP_FD, id, offset: 0 };
      if (value !== undefined && address >= value && address < value + bytes)
        return { source: PSEUDO_MAP_VALUE, id, offset: Number(address - value) };
    }
    return undefined;
  };
}

/** Returns the base of call offsets, and the names of called functions. Throws `KtstrError` if the base has no symbol. */
export function readCallTargets(
  { symbols }: GuestKernel,
  addressNames: AddressNames,
  codes: readonly ProgCode[],
): CallTargets {
  const at = symbols.address("__bpf_call_base");
  if (at === undefined) throw new KtstrError("the kernel has no symbol __bpf_call_base");
  const base = toBigInt(at.hi, at.lo);
  const names = new Map<bigint, string>();
  for (const address of new Set(codes.flatMap((code) => calledAddresses(code, base)))) {
    const found = addressNames.find(fromBigInt(address));
    if (found?.offset === 0) names.set(address, found.name);
  }
  return { base, names };
}
