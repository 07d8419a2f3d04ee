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
/** fs/file.c: `sysctl_nr_open` is a million unless it is raised; larger tables are rejected. */
const MAX_FDS = 2 ** 24;
/** Limit for all tables together. */
const MAX_SLOTS = 2 ** 26;

/** An open file descriptor. */
export interface OpenFile<T> {
  /** A thread of the process. */
  readonly task: StructAt;
  /** The process, `tgid`. */
  readonly pid: number;
  readonly fd: number;
  readonly kind: T;
  /** `file.private_data`. */
  readonly object: StructAt;
}

/**
 * Visits every descriptor whose `file.f_op` is one of `operations`, given by symbol name. Threads share their process's
 * table, which is visited once. A process is skipped if it cannot be read or if `visit` throws `KtstrError`. Throws
 * `KtstrError` if the kernel has none of these symbols, or if a list of tasks is damaged.
 */
export function forEachFile<T>(
  kernel: GuestKernel,
  operations: Readonly<Record<string, T>>,
  visit: (file: OpenFile<T>) => void,
): void {
  const kinds = new Map<string, T>();
  for (const [name, kind] of Object.entries(operations)) {
    const address = kernel.symbols.address(name);
    if (address !== undefined) kinds.set(keyOf(address), kind);
  }
  if (kinds.size === 0)
    throw new KtstrError(`look through open files: the kernel has no ${Object.keys(operations)[0]}`);
  const seen = new Set<string>();
  let left = MAX_SLOTS;
  for (const { at: task, tgid: pid } of tasks(kernel)) {
    try {
      const files = task.pointer(TASK.resolve(kernel.btf).files, "files");
      const key = `${pid} ${keyOf(files)}`;
      if (isNull(files) || seen.has(key)) continue;
      seen.add(key);
      left -= visitTable(kernel, files, left, kinds, (file) => visit({ task, pid, ...file }));
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
    }
  }
}

/** Returns the number of slots that were read. */
function visitTable<T>(
  { memory, btf }: GuestKernel,
  files: Pointer,
  most: number,
  kinds: ReadonlyMap<string, T>,
  visit: (file: Pick<OpenFile<T>, "fd" | "kind" | "object">) => void,
): number {
  const table = new StructAt(memory, files, "files_struct.").follow(FILES.resolve(btf).fdt, "fdt");
  const layout = FDTABLE.resolve(btf);
  const file = FILE.resolve(btf);
  const count = Math.min(table.u32(layout.max_fds, "max_fds"), MAX_FDS, most);
  const slots = table.pointer(layout.fd, "fd");
  for (let fd = 0; fd < count; fd++) {
    const at = memory.locate(slots.hi, slots.lo, fd * POINTER_BYTES, POINTER_BYTES);
    if (at < 0) return fd;
    const [lo, hi] = [memory.view.getInt32(at, true), memory.view.getInt32(at + 4, true)];
    if (hi === 0 && lo === 0) continue;
    const open = new StructAt(memory, { hi, lo }, "file.");
    const kind = kinds.get(keyOf(open.pointer(file.f_op, "f_op")));
    if (kind !== undefined) visit({ fd, kind, object: open.follow(file.private_data, "private_data") });
  }
  return count;
}

const keyOf = ({ hi, lo }: Pointer): string => `${hi | 0}:${lo | 0}`;
