/** Several mappings of a process as one file: the RAM of a machine whose NUMA nodes each have memory of their own. */
import { KtstrError } from "../../errors.ts";
import type { DataFile, OnDemandPages } from "../image/file.ts";
import { isOnDemand } from "../image/format.ts";

interface Part {
  readonly file: DataFile;
  /** Offset of the part's first byte. */
  readonly start: number;
  readonly end: number;
}

const PAGE_BYTES = 4096;

export class JoinedFile implements DataFile, OnDemandPages {
  readonly path: string;
  readonly isMapped = true;
  readonly sizeBytes: number;
  readonly #parts: readonly Part[];

  /** Takes ownership of the files. Throws `KtstrError` if one does not consist of whole pages, and closes them. */
  constructor(path: string, files: readonly DataFile[]) {
    this.path = path;
    let end = 0;
    const parts: Part[] = [];
    for (const file of files) {
      parts.push({ file, start: end, end: end + file.sizeBytes });
      end += file.sizeBytes;
    }
    this.#parts = parts;
    this.sizeBytes = end;
    if (this.#parts.every((part) => part.end % PAGE_BYTES === 0)) return;
    this[Symbol.dispose]();
    throw new KtstrError(`${path}: a part of its memory does not consist of whole pages`);
  }

  #at(offset: number): Part | undefined {
    return this.#parts.find(({ start, end }) => offset >= start && offset < end);
  }

  check(): void {
    for (const { file } of this.#parts) file.check();
  }

  releasePages(): void {
    for (const { file } of this.#parts) file.releasePages?.();
  }

  forget(): void {
    for (const { file } of this.#parts) if (isOnDemand(file)) file.forget();
  }

  note(offset: number, length: number): boolean {
    for (const { file, start, end } of this.#parts) {
      const [from, to] = [Math.max(offset, start), Math.min(offset + length, end)];
      if (from < to && isOnDemand(file) && !file.note(from - start, to - from)) return false;
    }
    return true;
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const into = new Uint8Array(new ArrayBuffer(Math.max(0, Math.min(length, this.sizeBytes - offset))));
    let done = 0;
    while (done < into.length) {
      const part = this.#at(offset + done);
      if (part === undefined) break;
      const from = offset + done - part.start;
      const bytes = part.file.read(from, Math.min(into.length - done, part.end - part.start - from));
      if (bytes.length === 0) break;
      into.set(bytes, done);
      done += bytes.length;
    }
    return into.subarray(0, done);
  }

  /** Returns a window that ends at most at the end of the part that contains `offset`. */
  window(offset: number, length: number): Uint8Array {
    const part = this.#at(offset);
    if (part === undefined) return new Uint8Array(0);
    return part.file.window(offset - part.start, Math.min(length, part.end - offset));
  }

  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void {
    let stopped = false;
    for (const { file, start, end } of this.#parts) {
      const [first, last] = [Math.max(from, start), Math.min(to, end)];
      if (stopped || first >= last) continue;
      file.search(first - start, last - start, (view, offset) => {
        stopped = visit(view, start + offset);
        return stopped;
      });
    }
  }

  [Symbol.dispose](): void {
    for (const { file } of this.#parts) file[Symbol.dispose]();
  }
}
