/** Programs and BTF of the tests, assembled by hand and as small as the verifier accepts. */
import { closeSync, openSync } from "node:fs";
import { bpf } from "../../src/ffi.ts";
import { Attr } from "../../src/live/attr.ts";
import { pinned } from "../../src/live/objects.ts";
import { BTF_LOAD_ATTR, COMMANDS, TEST_RUN_ATTR } from "../../src/uapi/bpf.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { errnoName } from "../../src/uapi/errno.ts";
import { exit, INSN_BYTES, loadMap, set } from "../../src/uapi/insn.ts";
import { cutAtNul, bytes as inline, type Layout, layout, u32, u64 } from "../../src/uapi/layout.ts";
import { ATTACH_TYPES, ProgType, type ProgTypeName } from "../../src/uapi/names.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { kernelBtf } from "../uapi/support.ts";
import { type Held, Kit, must, pinBytes, text } from "./kit.ts";

/** The member of `union bpf_attr` for BPF_PROG_LOAD, with fields that ktstr itself does not use. */
const LOAD_ATTR: Layout<
  | "prog_type"
  | "insn_cnt"
  | "insns"
  | "license"
  | "log_level"
  | "log_size"
  | "log_buf"
  | "prog_flags"
  | "prog_name"
  | "expected_attach_type"
  | "prog_btf_fd"
  | "func_info_rec_size"
  | "func_info"
  | "func_info_cnt"
  | "attach_btf_id"
  | "attach_prog_fd"
> = layout("union bpf_attr", 128, {
  prog_type: u32(0),
  insn_cnt: u32(4),
  insns: u64(8),
  license: u64(16),
  log_level: u32(24),
  log_size: u32(28),
  log_buf: u64(32),
  prog_flags: u32(44),
  prog_name: inline(48, 16),
  expected_attach_type: u32(68),
  prog_btf_fd: u32(72),
  func_info_rec_size: u32(76),
  func_info: u64(80),
  func_info_cnt: u32(88),
  attach_btf_id: u32(108),
  attach_prog_fd: u32(112),
});

export interface ProgOptions {
  readonly type: ProgTypeName;
  readonly name?: string;
  /** Whole instructions; default `return 0`. */
  readonly code?: readonly Uint8Array[];
  readonly license?: string;
  readonly attachType?: (typeof ATTACH_TYPES)[number];
  /** `expected_attach_type` if it is not an attach type but the index of a struct_ops member. */
  readonly expected?: number;
  readonly flags?: number;
  readonly btfFd?: number;
  /** Type id of the function in that BTF. */
  readonly funcTypeId?: number;
  readonly attachBtfId?: number;
  readonly attachProgFd?: number;
}

export const returns = (value: number): Uint8Array[] => [set(0, value), exit()];

/** Uses these maps, so that the kernel lists them with the program. */
export const usesMaps = (...maps: readonly Held[]): Uint8Array[] => [
  ...maps.map((map) => loadMap(1, map.fd)),
  ...returns(0),
];

export const attachType = (name: (typeof ATTACH_TYPES)[number]): number => ATTACH_TYPES.indexOf(name);

export function loadProg(kit: Kit, options: ProgOptions): Held {
  const code = pinBytes(Buffer.concat([...(options.code ?? returns(0))]));
  const log = pinned(64 * 1024);
  const attr = new Attr(LOAD_ATTR, {
    prog_type: ProgType[options.type],
    insn_cnt: code.length / INSN_BYTES,
    log_level: 1,
    log_size: log.length,
    prog_flags: options.flags ?? 0,
    expected_attach_type:
      options.expected ?? (options.attachType === undefined ? 0 : attachType(options.attachType)),
    prog_btf_fd: options.btfFd ?? 0,
    attach_btf_id: options.attachBtfId ?? 0,
    attach_prog_fd: options.attachProgFd ?? 0,
  })
    .point("insns", code)
    .point("license", text(options.license ?? "GPL"))
    .point("log_buf", log)
    .setBytes("prog_name", Buffer.from(options.name ?? ""));
  if (options.funcTypeId !== undefined) {
    const record = pinBytes(new Uint8Array(8));
    new DataView(record.buffer).setUint32(4, options.funcTypeId, true);
    attr.set("func_info_rec_size", 8).set("func_info_cnt", 1).point("func_info", record);
  }
  const fd = bpf(COMMANDS.BPF_PROG_LOAD, attr.bytes);
  if (fd < 0) {
    const said = Buffer.from(cutAtNul(log)).toString("latin1");
    throw new Error(`BPF_PROG_LOAD ${options.type}: ${errnoName(-fd)}\n${said}`);
  }
  return kit.own(fd, "prog_id");
}

/** Runs a program `times` times on a packet of zeros. */
export function testRun(prog: Held, times: number): void {
  const packet = pinned(64);
  must(
    "BPF_PROG_TEST_RUN",
    new Attr(TEST_RUN_ATTR, { prog_fd: prog.fd, data_size_in: packet.length, repeat: times }).point(
      "data_in",
      packet,
    ),
  );
}

export function loadBtf(kit: Kit, bytes: Uint8Array): Held {
  const attr = new Attr(BTF_LOAD_ATTR, { btf_size: bytes.length }).point("btf", pinBytes(bytes));
  return kit.own(must("BPF_BTF_LOAD", attr), "btf_id");
}

/** Types for several tests: an int, a struct of two, and a function `name`. */
export function someTypes(
  kit: Kit,
  functionName = "a_function",
): { btf: Held; intId: number; structId: number; functionId: number } {
  const writer = new BtfWriter();
  const intId = writer.int("int", 4, 1);
  const longId = writer.int("unsigned long", 8);
  const structId = writer.struct("pair", 16, [
    ["first", intId, 0],
    ["second", longId, 64],
  ]);
  const context = writer.pointer(0);
  const prototype = writer.raw(BTF_KIND.FUNC_PROTO, "", intId, [writer.string("ctx"), context], 1);
  const functionId = writer.raw(BTF_KIND.FUNC, functionName, prototype, [], 1);
  return { btf: loadBtf(kit, writer.bytes()), intId, structId, functionId };
}

const refusals: Map<string, string> = new Map();

/** Returns the error with which this kernel refuses a tracing program of this kind for a function, or "". */
function refusalOf(attachType: "trace_fentry" | "trace_iter", name: string): string {
  const known = refusals.get(name);
  if (known !== undefined) return known;
  let why = "";
  using kit = new Kit();
  try {
    loadProg(kit, { type: "tracing", attachType, attachBtfId: kernelFunction(name) });
  } catch (error) {
    why = String(error);
    console.warn(`skipped: programs on ${name}: ${why}`);
  }
  refusals.set(name, why);
  return why;
}

/** Returns the error with which this kernel refuses a program that hooks a function, or "". A kernel with sealed text returns EPERM. */
export const trampolineRefusal = (): string => refusalOf("trace_fentry", "do_nanosleep");

/** Returns the error with which this kernel refuses a program that visits elements of a map, or "". A locked-down kernel returns EPERM. */
export const elementIteratorRefusal = (): string => refusalOf("trace_iter", "bpf_iter_bpf_map_elem");

/** Returns the id of a kernel type by name. Throws if there is none. */
export function kernelType(name: string, kind: number): number {
  const id = kernelBtf().find(name, kind);
  if (id === undefined) throw new Error(`the kernel has no type ${name}`);
  return id;
}

export const kernelFunction = (name: string): number => kernelType(name, BTF_KIND.FUNC);

/** Opens a path; the descriptor is closed with the kit. */
export function openPath(kit: Kit, path: string | Buffer): number {
  const fd = openSync(path, "r");
  kit.defer(() => closeSync(fd));
  return fd;
}
