/** Walks open files: `task_struct.files` -> `struct fdtable` -> `struct file` of every process. */
import { ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";
import type { GuestKernel } from "./kernel.ts";
import { StructAt } from "./struct-at.ts";
import { tasks } from "./tasks.ts";

const TASK = struct("task_struct", { files: ptr });
const FILES = struct("files_struct", { fdt: ptr });
const FDTABLE = struct("fdtable", { max_fds: u32, fd: ptr });
const FILE = struct("file", { f_op: ptr, private_data: ptr });

const POINTER_BYTES = 8;
/** Slots of a table that are read at a time: most are empty. */
const BLOCK_SLOTS = 512;
/** fs/file.c: `sysctl_nr_open` is a million unless it is raised; larger tables are rejected. */
const MAX_FDS = 2 ** 24;
/** Limit for all tables together. */
const MAX_SLOTS = 2 ** 26;

/** An open file descriptor. */
export interface OpenFile {
  /** A thread of the process. */
  readonly task: StructAt;
  /** The process, `tgid`. */
  readonly pid: number;
  readonly fd: number;
  /** The symbol of `file.f_op`. */
  readonly operations: string;
  /** `file.private_data`. */
  readonly object: StructAt;
}

/** A `struct file_operations` with a symbol. */
interface Operations extends Pointer {
  readonly name: string;
}

/** Symbols of the `struct file_operations` to find (kernel/bpf/syscall.c, kernel/bpf/btf.c, kernel/events/core.c). */
const OPERATIONS: readonly string[] = [
  "bpf_map_fops",
  "bpf_prog_fops",
  "bpf_link_fops",
  /** Since 6.11: links that can be polled. */
  "bpf_link_fops_poll",
  "btf_fops",
  "perf_fops",
];

/**
 * Returns every descriptor of a BPF object or a perf event. Threads share their process's table, which is visited once. The
 * rest of a process's table is skipped if it cannot be read. Throws `KtstrError` if a list of tasks is damaged.
 */
export function openFiles(kernel: GuestKernel): readonly OpenFile[] {
  const known: Operations[] = [];
  for (const name of OPERATIONS) {
    try {
      const address = kernel.symbols.address(name);
      if (address !== undefined) known.push({ hi: address.hi | 0, lo: address.lo | 0, name });
    } catch (error) {
      // A capture has only the symbols that were looked up when it was made.
      if (!(error instanceof KtstrError)) throw error;
    }
  }
  const all: OpenFile[] = [];
  if (known.length === 0) return all;
  const seen = new Set<string>();
  let left = MAX_SLOTS;
  for (const { at: task, tgid: pid } of tasks(kernel)) {
    try {
      const files = task.pointer(TASK.resolve(kernel.btf).files, "files");
      const key = `${pid} ${keyOf(files)}`;
      if (isNull(files) || seen.has(key)) continue;
      seen.add(key);
      left -= visitTable(kernel, files, left, known, (file) => all.push({ task, pid, ...file }));
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
    }
  }
  return all;
}

/**
 * Visits the files of `openFiles` whose operations are in a table, with the table's value. If `visit` throws `KtstrError`, the
 * other files of that process are skipped. Throws `KtstrError` if the kernel has none of these operations.
 */
export function forEachFile<T>(
  { symbols }: GuestKernel,
  files: readonly OpenFile[],
  operations: Readonly<Record<string, T>>,
  visit: (file: OpenFile, kind: T) => void,
): void {
  const names = Object.keys(operations);
  if (names.every((name) => symbols.address(name) === undefined))
    throw new KtstrError(`search open files: the kernel has no ${names[0]}`);
  let skipped: StructAt | undefined;
  for (const file of files) {
    const kind = operations[file.operations];
    if (kind === undefined || file.task === skipped) continue;
    try {
      visit(file, kind);
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      skipped = file.task;
    }
  }
}

/** Returns the number of slots that were read. */
function visitTable(
  { memory, btf }: GuestKernel,
  files: Pointer,
  most: number,
  operations: readonly Operations[],
  visit: (file: Pick<OpenFile, "fd" | "operations" | "object">) => void,
): number {
  const table = new StructAt(memory, files, "files_struct.").follow(FILES.resolve(btf).fdt, "fdt");
  const layout = FDTABLE.resolve(btf);
  const file = FILE.resolve(btf);
  const count = Math.min(table.u32(layout.max_fds, "max_fds"), MAX_FDS, most);
  const { hi, lo } = table.pointer(layout.fd, "fd");
  const block = new Int32Array(Math.min(count, BLOCK_SLOTS) * 2);
  const bytes = new Uint8Array(block.buffer);
  for (let first = 0; first < count; first += BLOCK_SLOTS) {
    const wanted = bytes.subarray(0, (count - first) * POINTER_BYTES);
    const got = memory.copyOut(hi, lo, first * POINTER_BYTES, wanted);
    const slots = Math.floor(got / POINTER_BYTES);
    for (let slot = 0; slot < slots; slot++) {
      const fileLo = block[2 * slot]!;
      const fileHi = block[2 * slot + 1]!;
      if (fileLo === 0 && fileHi === 0) continue;
      const at = memory.expect(fileHi, fileLo, file.f_op, POINTER_BYTES, "file.f_op");
      const { view } = memory;
      const name = nameOf(operations, view.getInt32(at + 4, true), view.getInt32(at, true));
      if (name === undefined) continue;
      const open = new StructAt(memory, { hi: fileHi, lo: fileLo }, "file.");
      visit({
        fd: first + slot,
        operations: name,
        object: open.follow(file.private_data, "private_data"),
      });
    }
    if (got < wanted.length) return first + slots;
  }
  return count;
}

function nameOf(operations: readonly Operations[], hi: number, lo: number): string | undefined {
  for (const each of operations) if (each.lo === lo && each.hi === hi) return each.name;
  return undefined;
}

const keyOf = ({ hi, lo }: Pointer): string => `${hi | 0}:${lo | 0}`;
