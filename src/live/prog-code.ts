/** Reads the instructions, line info and machine code of a program from `struct bpf_prog_info`. */
import { KtstrError } from "../errors.ts";
import type { Fd, PinnedBytes } from "../ffi.ts";
import { type FunctionInfo, LINE_WORDS, type MachineFunction, type ProgCode } from "../prog-code.ts";
import { PROG_INFO } from "../uapi/bpf.ts";
import { viewOf } from "../uapi/layout.ts";
import { Attr } from "./attr.ts";
import { objectInfo, pinned } from "./objects.ts";
import type { Sys } from "./sys.ts";

/** Sizes of `struct bpf_func_info` and `struct bpf_line_info`. Newer, longer records are truncated to the requested size. */
const FUNC_INFO_BYTES = 8;
const LINE_INFO_BYTES = 4 * LINE_WORDS;
/** Size limit; the verifier accepts at most 1,000,000 instructions. */
const MAX_BYTES = 2 ** 28;
const MAX_RECORDS = 2 ** 24;

/**
 * Makes two calls: one for the sizes, one for the data. Throws `SyscallError`, or `KtstrError` if a size is out of bounds.
 */
export function readProgCode(sys: Sys, fd: Fd, object: string): ProgCode {
  const sizes = new Attr(PROG_INFO);
  objectInfo(sys, fd, PROG_INFO, object, sizes.bytes);
  const insnBytes = bounded(object, "xlated_prog_len", sizes.get("xlated_prog_len"), MAX_BYTES);
  const functions = bounded(object, "nr_func_info", sizes.get("nr_func_info"), MAX_RECORDS);
  const lines = bounded(object, "nr_line_info", sizes.get("nr_line_info"), MAX_RECORDS);
  const places = bounded(object, "nr_jited_line_info", sizes.get("nr_jited_line_info"), MAX_RECORDS);
  const ksyms = bounded(object, "nr_jited_ksyms", sizes.get("nr_jited_ksyms"), MAX_RECORDS);

  const buffers = {
    xlated_prog_insns: pinned(insnBytes),
    func_info: pinned(functions * FUNC_INFO_BYTES),
    line_info: pinned(lines * LINE_INFO_BYTES),
    jited_line_info: pinned(places * 8),
    jited_ksyms: pinned(ksyms * 8),
  };
  const attr = new Attr(PROG_INFO, {
    xlated_prog_len: insnBytes,
    nr_func_info: functions,
    func_info_rec_size: FUNC_INFO_BYTES,
    nr_line_info: lines,
    line_info_rec_size: LINE_INFO_BYTES,
    nr_jited_line_info: places,
    jited_line_info_rec_size: 8,
    nr_jited_ksyms: ksyms,
  });
  for (const name of Object.keys(buffers) as (keyof typeof buffers)[]) attr.point(name, buffers[name]);
  objectInfo(sys, fd, PROG_INFO, object, attr.bytes);

  // The kernel sets the pointers of data that this process may not see to NULL.
  const shown = (name: keyof typeof buffers, length: number): PinnedBytes =>
    buffers[name].subarray(0, isNull(attr.bytes, name) ? 0 : length);
  const words = (name: "jited_ksyms" | "jited_line_info", count: number): bigint[] => {
    const { buffer, length } = shown(name, count * 8);
    return [...new BigUint64Array(buffer, 0, length / 8)];
  };
  return {
    insns: shown("xlated_prog_insns", insnBytes),
    functions: functionsIn(shown("func_info", functions * FUNC_INFO_BYTES)),
    lines: new Uint32Array(buffers.line_info.buffer, 0, lines * LINE_WORDS),
    lineAddresses: words("jited_line_info", places),
    functionAddresses: words("jited_ksyms", ksyms),
    functionCount: attr.get("nr_jited_ksyms"),
  };
}

/**
 * Returns the machine code of each function in the order of the kernel's buffer; empty if this process may not see it.
 * Throws like `readProgCode`.
 */
export function readMachineCode(sys: Sys, fd: Fd, object: string): MachineFunction[] {
  const sizes = new Attr(PROG_INFO);
  objectInfo(sys, fd, PROG_INFO, object, sizes.bytes);
  const length = bounded(object, "jited_prog_len", sizes.get("jited_prog_len"), MAX_BYTES);
  const count = bounded(object, "nr_jited_func_lens", sizes.get("nr_jited_func_lens"), MAX_RECORDS);
  const insns = pinned(length);
  const lengths = pinned(count * 4);
  const starts = pinned(count * 8);
  const attr = new Attr(PROG_INFO, {
    jited_prog_len: length,
    nr_jited_func_lens: count,
    nr_jited_ksyms: count,
  })
    .point("jited_prog_insns", insns)
    .point("jited_func_lens", lengths)
    .point("jited_ksyms", starts);
  objectInfo(sys, fd, PROG_INFO, object, attr.bytes);
  if (length === 0 || isNull(attr.bytes, "jited_prog_insns") || isNull(attr.bytes, "jited_ksyms")) return [];
  const functions: MachineFunction[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const end = Math.min(length, at + viewOf(lengths).getUint32(index * 4, true));
    functions.push({
      address: viewOf(starts).getBigUint64(index * 8, true),
      bytes: insns.subarray(at, end),
    });
    at = end;
  }
  return functions;
}

function functionsIn(bytes: Uint8Array): FunctionInfo[] {
  const words = viewOf(bytes);
  return Array.from({ length: bytes.length / FUNC_INFO_BYTES }, (_, index) => ({
    insn: words.getUint32(index * FUNC_INFO_BYTES, true),
    typeId: words.getUint32(index * FUNC_INFO_BYTES + 4, true),
  }));
}

function isNull(info: PinnedBytes, name: keyof typeof PROG_INFO.fields): boolean {
  return viewOf(info).getBigUint64(PROG_INFO.fields[name].offset, true) === 0n;
}

function bounded(object: string, what: string, value: number, most: number): number {
  if (value <= most) return value;
  throw new KtstrError(`${object}: ${what} is ${value}, more than a program can have`);
}
