/** Finds the mapping of a guest's RAM in a process (proc_pid_maps(5)), and opens it as a file. */
import { KtstrError } from "../../errors.ts";
import { type DataFile, ImageFile } from "../image/file.ts";
import { OnDemandFile } from "../image/on-demand.ts";
import { chooseNodes, memoryArgument, nodesIn } from "./arguments.ts";
import { JoinedFile } from "./joined.ts";
import { chooseMicroVmRam, isMicroVm } from "./microvm.ts";
import { ProcessPages } from "./process-pages.ts";

/** A range of a process's virtual addresses. */
export interface Mapping {
  readonly start: number;
  readonly length: number;
  /** MAP_SHARED: writes go to the file or the shared memory. */
  readonly isShared: boolean;
  /** 0 for anonymous memory. */
  readonly inode: number;
  readonly fileOffset: number;
  readonly name: string;
}

const LINE = /^([0-9a-f]+)-([0-9a-f]+) rw-([ps]) ([0-9a-f]+) \S+ (\d+)\s*(.*)$/;
/** vm.max_map_count is 65,530 unless an administrator raised it. */
const MAX_MAPPINGS = 2 ** 20;

/**
 * Parses the mappings that can be a guest's RAM: readable, writable, not executable (QEMU's translated code is). Adjacent
 * mappings of consecutive file offsets are joined: the kernel splits them at memory policies.
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
    if (last !== undefined && isContinuedBy(last, next))
      found[found.length - 1] = { ...last, length: last.length + length };
    else found.push(next);
  }
  return found;
}

function isContinuedBy(last: Mapping, next: Mapping): boolean {
  return (
    last.start + last.length === next.start &&
    last.isShared === next.isShared &&
    last.inode === next.inode &&
    last.inode !== 0 &&
    last.fileOffset + last.length === next.fileOffset
  );
}

/** Returns the mapping with the given size, or the largest one if the size is not known. */
export function chooseRam(mappings: readonly Mapping[], sizeBytes: number | undefined): Mapping | undefined {
  if (sizeBytes === undefined)
    return mappings.reduce<Mapping | undefined>(
      (largest, each) => (largest === undefined || each.length > largest.length ? each : largest),
      undefined,
    );
  const fitting = mappings.filter(({ length }) => length === sizeBytes);
  return fitting.find(({ inode }) => inode !== 0) ?? fitting[0];
}

/** Facts about the machine's RAM that QEMU reports through QMP. */
export interface RamFacts {
  /** The size of the RAM that it started with. */
  readonly sizeBytes: number | undefined;
  /** Returns a virtual address of the process that is in the memory object with this id. */
  addressOf(id: string): number | undefined;
}

/**
 * Opens the RAM of a process's guest: one mapping, or those of QEMU's NUMA nodes or of a microVM's regions, joined in their
 * order. Facts that are undefined are taken from QEMU's arguments. Throws `KtstrError` if the process cannot be read or has no
 * such mapping.
 */
export function openRam(pid: number, facts: RamFacts | undefined): DataFile {
  const mappings = mappingsIn(readProc(pid, "maps"));
  const words = readProc(pid, "cmdline").split("\0");
  if (isMicroVm(words)) {
    const chosen = chooseMicroVmRam(mappings, process.arch === "x64");
    if (chosen.length === 0) throw notFound(pid, "it has no writable memory");
    return openAll(pid, chosen);
  }
  const nodes = nodesIn(words);
  if (nodes.length > 0) {
    const chosen = chooseNodes(mappings, nodes, facts?.addressOf);
    if (typeof chosen === "string") throw notFound(pid, chosen);
    return openAll(pid, chosen);
  }
  const wanted = facts?.sizeBytes ?? memoryArgument(words);
  const ram = chooseRam(mappings, wanted);
  if (ram === undefined)
    throw notFound(
      pid,
      wanted === undefined ? "it has no writable memory" : `no mapping has ${wanted} bytes`,
    );
  return openAll(pid, [ram]);
}

const notFound = (pid: number, why: string): KtstrError =>
  new KtstrError(`find the guest's memory in process ${pid}: ${why}`, {
    hint: "QEMU's `dump-guest-memory` writes it to a file.",
  });

function openAll(pid: number, mappings: readonly Mapping[]): DataFile {
  const whole = openMapped(pid, mappings);
  if (whole !== undefined) return whole;
  const files: DataFile[] = [];
  try {
    for (const each of mappings)
      files.push(openMapped(pid, [each]) ?? new OnDemandFile(new ProcessPages(pid, each)));
  } catch (error) {
    for (const file of files) file[Symbol.dispose]();
    throw error;
  }
  return files.length === 1 ? files[0]! : new JoinedFile(`/proc/${pid}/mem`, files);
}

/**
 * Maps the file of shared memory if the mappings cover the whole file, in its order. Its holes stay holes; a read through the
 * process would allocate them.
 */
function openMapped(pid: number, mappings: readonly Mapping[]): ImageFile | undefined {
  const [first] = mappings;
  let end = 0;
  for (const { isShared, inode, fileOffset, length, name } of mappings) {
    if (!isShared || inode === 0 || inode !== first?.inode || fileOffset !== end || name.includes("huge"))
      return undefined;
    end += length;
  }
  if (first === undefined) return undefined;
  const range = `${first.start.toString(16)}-${(first.start + first.length).toString(16)}`;
  try {
    const file = new ImageFile(`/proc/${pid}/map_files/${range}`);
    if (file.sizeBytes === end) return file;
    file[Symbol.dispose]();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
  }
  return undefined;
}

/** Reads a file under /proc/PID. Throws `KtstrError` if there is no such process, or if this user may not read it. */
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
          : "It requires the process's own user or root (CAP_SYS_PTRACE).",
      cause: error,
    });
  }
}
