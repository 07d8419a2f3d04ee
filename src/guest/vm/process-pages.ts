/** Reads pages of another process's memory on demand, through /proc/PID/mem. */
import { Fd, open, type PinnedBytes, pageSize, pread } from "../../ffi.ts";
import type { PageRange, PageSource } from "../image/on-demand.ts";
import type { Mapping } from "./ram.ts";

const PAGE_BYTES = 4096;
/** Documentation/admin-guide/mm/pagemap.rst: 8 bytes per page. Bit 63: present, bit 62: swapped. */
const ENTRY_BYTES = 8;
const ENTRIES = 1024;
const IN_USE = 0xc000_0000;

export class ProcessPages implements PageSource {
  readonly path: string;
  readonly pageBytes: number = PAGE_BYTES;
  readonly ranges: readonly PageRange[];
  readonly #start: number;
  readonly #memory: Fd;
  /** Used for private mappings: pages that are not present are not read through the process, which would allocate them. */
  readonly #pagemap: Fd | undefined;
  /** The file of a private mapping, for pages that are not present. Undefined for anonymous memory, whose absent pages are zeros. */
  readonly #file: Fd | undefined;
  readonly #fileOffset: number;
  readonly #hostPageBytes: number = pageSize();
  #entries: DataView = new DataView(new ArrayBuffer(0));
  #firstEntry = 0;

  /** Throws `SyscallError` if this user may not read the process. */
  constructor(pid: number, { start, length, inode, isShared, fileOffset }: Mapping) {
    this.path = `/proc/${pid}/mem`;
    this.#start = start;
    this.ranges = [{ start: 0, end: length - (length % PAGE_BYTES) }];
    this.#memory = Fd.openFile(this.path, "It requires the process's own user or root (CAP_SYS_PTRACE).");
    const range = `${start.toString(16)}-${(start + length).toString(16)}`;
    const file = inode !== 0 && !isShared ? open(`/proc/${pid}/map_files/${range}`) : -1;
    this.#file = file < 0 ? undefined : new Fd(file, "map_files");
    this.#fileOffset = fileOffset;
    const pagemap = inode === 0 || file >= 0 ? open(`/proc/${pid}/pagemap`) : -1;
    this.#pagemap = pagemap < 0 ? undefined : new Fd(pagemap, "pagemap");
  }

  /** Drops the cached pagemap entries. */
  forget(): void {
    this.#entries = new DataView(new ArrayBuffer(0));
  }

  /** Does nothing: memory does not shrink. If the process exits, `readPage` fails. */
  check(): void {}

  readPage(offset: number, into: PinnedBytes): boolean {
    const address = this.#start + offset;
    if (!this.#isInUse(address)) {
      if (this.#file !== undefined)
        return pread(this.#file.number, into, this.#fileOffset + offset) === into.length;
      into.fill(0);
      return true;
    }
    return pread(this.#memory.number, into, address) === into.length;
  }

  #isInUse(address: number): boolean {
    if (this.#pagemap === undefined) return true;
    const page = Math.floor(address / this.#hostPageBytes);
    const held = this.#entries.byteLength / ENTRY_BYTES;
    if (page < this.#firstEntry || page >= this.#firstEntry + held) {
      const bytes = new Uint8Array(new ArrayBuffer(ENTRIES * ENTRY_BYTES));
      const got = pread(this.#pagemap.number, bytes, page * ENTRY_BYTES);
      this.#firstEntry = page;
      this.#entries = new DataView(bytes.buffer, 0, Math.max(0, got - (got % ENTRY_BYTES)));
      if (this.#entries.byteLength === 0) return true;
    }
    const high = this.#entries.getUint32((page - this.#firstEntry) * ENTRY_BYTES + 4, true);
    return (high & IN_USE) !== 0;
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    this.#pagemap?.[Symbol.dispose]();
    this.#file?.[Symbol.dispose]();
  }
}
