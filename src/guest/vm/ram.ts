/** Which of a process's mappings is a guest's RAM, and that memory as a file (proc_pid_maps(5)). */
import { KtstrError } from "../../errors.ts";
import { type DataFile, ImageFile } from "../image/file.ts";
import { OnDemandFile } from "../image/on-demand.ts";
import { ProcessPages } from "./process-pages.ts";

/** A run of a process's addresses. */
export interface Mapping {
  readonly start: number;
  readonly length: number;
  /** Writes are the file's, or shared memory's. */
  readonly isShared: boolean;
  /** 0: no file is behind it. */
  readonly inode: number;
  readonly fileOffset: number;
  readonly name: string;
}

const LINE = /^([0-9a-f]+)-([0-9a-f]+) rw-([ps]) ([0-9a-f]+) \S+ (\d+)\s*(.*)$/;
/** vm.max_map_count is 65,530 unless an administrator raised it. */
const MAX_MAPPINGS = 2 ** 20;

/**
 * The mappings that a guest's RAM may be: readable, writable, not executable (QEMU's translated code is). Neighbours
 * that go on with one another are one: policies of the kernel split them.
 */
export function mappingsIn(maps: string): Mapping[] {
  const found: Mapping[] = [];
  for (const line of maps.split("\n", MAX_MAPPINGS)) {
    const [, from = "", to = "", kind, offset = "", inode, name = ""] = LINE.exec(line) ?? [];
    const start = Number.parseInt(from, 16);
    const length = Number.parseInt(to, 16) - start;
    if (!(length > 0 && Number.isSafeInteger(start + length)) || name.includes("tcg-jit")) continue;
    const next: Mapping = {
      start,
      length,
      isShared: kind === "s",
      inode: Number(inode),
      fileOffset: Number.parseInt(offset, 16),
      name,
    };
    const last = found.at(-1);
    if (last !== undefined && goesOn(last, next))
      found[found.length - 1] = { ...last, length: last.length + length };
    else found.push(next);
  }
  return found;
}

function goesOn(last: Mapping, next: Mapping): boolean {
  return (
    last.start + last.length === next.start &&
    last.isShared === next.isShared &&
    last.inode === next.inode &&
    last.inode !== 0 &&
    last.fileOffset + last.length === next.fileOffset
  );
}

/** The bytes behind `-m` among QEMU's arguments: MiB without a unit. undefined: there is none. */
export function memoryArgument(words: readonly string[]): number | undefined {
  const at = words.indexOf("-m");
  const [, digits, unit = "M"] = /^(?:size=)?(\d+)([KMGT]?)/i.exec(at < 0 ? "" : (words[at + 1] ?? "")) ?? [];
  if (digits === undefined) return undefined;
  return Number(digits) * 1024 ** ("KMGT".indexOf(unit.toUpperCase() || "M") + 1);
}

/** The mapping of that many bytes; the largest, where it is not known how many. */
export function chooseRam(mappings: readonly Mapping[], sizeBytes: number | undefined): Mapping | undefined {
  if (sizeBytes === undefined)
    return mappings.reduce<Mapping | undefined>(
      (largest, each) => (largest === undefined || each.length > largest.length ? each : largest),
      undefined,
    );
  const fitting = mappings.filter(({ length }) => length === sizeBytes);
  return fitting.find(({ inode }) => inode !== 0) ?? fitting[0];
}

/**
 * The RAM of a process's guest. `sizeBytes`: what the machine says of it; QEMU's arguments tell it otherwise. Throws
 * `KtstrError` if the process cannot be read, or has no such mapping.
 */
export function openRam(pid: number, sizeBytes: number | undefined): DataFile {
  const mappings = mappingsIn(readProc(pid, "maps"));
  const wanted = sizeBytes ?? memoryArgument(readProc(pid, "cmdline").split("\0"));
  const ram = chooseRam(mappings, wanted);
  if (ram === undefined)
    throw new KtstrError(
      `find the guest's memory in process ${pid}: ${wanted === undefined ? "it has no memory that it may write" : `no mapping has its ${wanted} bytes`}`,
      {
        hint: "Its memory may be in several pieces, which are not read. QEMU's `dump-guest-memory` writes them all.",
      },
    );
  return openMapped(pid, ram) ?? new OnDemandFile(new ProcessPages(pid, ram));
}

/** The file behind shared memory, mapped: its holes stay holes, where a read through the process would fill them. */
function openMapped(
  pid: number,
  { start, length, isShared, inode, fileOffset, name }: Mapping,
): ImageFile | undefined {
  if (!isShared || inode === 0 || fileOffset !== 0 || name.includes("huge")) return undefined;
  const range = `${start.toString(16)}-${(start + length).toString(16)}`;
  try {
    const file = new ImageFile(`/proc/${pid}/map_files/${range}`);
    if (file.sizeBytes === length) return file;
    file[Symbol.dispose]();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
  }
  return undefined;
}

/** Throws `KtstrError` if there is no such process, or it is another user's. */
export function readProc(pid: number, file: string): string {
  const { readFileSync } = process.getBuiltinModule("node:fs");
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new KtstrError(`read /proc/${pid}/${file}: ${code}`, {
      hint:
        code === "ENOENT"
          ? "There is no such process."
          : "It takes the process's own user, or root (CAP_SYS_PTRACE).",
      cause: error,
    });
  }
}
