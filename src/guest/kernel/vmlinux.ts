/** Reads a kernel's ELF file, with its symbols and types, and finds the ELF file of a kernel image. */
import { realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Btf } from "../../btf/btf.ts";
import { FormatError } from "../../errors.ts";
import { EM_AARCH64, EM_X86_64, NT_GNU_BUILD_ID, SHT_SYMTAB } from "../../uapi/elf.ts";
import { findNote } from "../image/core.ts";
import { ElfFile } from "../image/elf.ts";
import { ImageFile } from "../image/file.ts";
import { add, type Pointer } from "../memory/pointer.ts";
import type { Symbols } from "./symbols.ts";
import { SymbolTable } from "./symtab.ts";

/** A parsed vmlinux: tens of MB of symbols, and its BTF, which is parsed lazily. */
export class Vmlinux {
  readonly path: string;
  /** `uname -m`. */
  readonly machine: "x86_64" | "aarch64";
  /** Hexadecimal build id from the notes; "" if there is none. */
  readonly buildId: string;
  /** Link addresses; undefined if the file is stripped. */
  readonly symtab: SymbolTable | undefined;
  readonly #btfBytes: Uint8Array | undefined;
  #btf: Btf | undefined;

  /** Throws `SyscallError` or `FormatError`. */
  constructor(path: string) {
    this.path = path;
    using file = new ImageFile(path);
    const elf = new ElfFile(file, `vmlinux ${path}`);
    const { machine } = elf;
    if (machine !== EM_X86_64 && machine !== EM_AARCH64)
      throw new FormatError(elf.format, 18, `machine ${machine} is neither x86-64 (62) nor arm64 (183)`);
    this.machine = machine === EM_X86_64 ? "x86_64" : "aarch64";
    this.buildId = readBuildId(elf);
    const symtab = elf.sections.find(({ type }) => type === SHT_SYMTAB);
    this.symtab = symtab === undefined ? undefined : SymbolTable.read(elf, symtab);
    const btf = elf.section(".BTF");
    this.#btfBytes = btf === undefined ? undefined : elf.contents(btf);
  }

  /** Returns its `.BTF`; undefined if there is none. Throws `FormatError` if it is damaged. */
  btf(): Btf | undefined {
    if (this.#btf === undefined && this.#btfBytes !== undefined)
      this.#btf = Btf.parse(this.#btfBytes, { name: "vmlinux" });
    return this.#btf;
  }

  /** Returns its symbols, moved by the kernel's KASLR offset; undefined if the file is stripped. */
  symbolsMovedBy(kaslrOffset: number): Symbols | undefined {
    const { symtab, path } = this;
    if (symtab === undefined) return undefined;
    const moved = (at: Pointer | undefined): Pointer | undefined =>
      // Absolute symbols and per-CPU offsets (x86-64 up to 6.14) are not addresses in the image and are not moved.
      at === undefined || at.hi >= 0 ? at : add(at, kaslrOffset);
    return {
      source: path,
      count: symtab.count,
      address: (name) => moved(symtab.address(name)),
      nearest: (at) => symtab.nearest(add(at, -kaslrOffset)),
    };
  }
}

function readBuildId(elf: ElfFile): string {
  for (const name of [".notes", ".note.gnu.build-id"]) {
    const section = elf.section(name);
    const note = section === undefined ? undefined : findNote(elf.contents(section), "GNU", NT_GNU_BUILD_ID);
    if (note !== undefined) return Buffer.from(note).toString("hex");
  }
  return "";
}

const cache = new Map<string, { readonly mtimeNs: bigint; readonly vmlinux: Vmlinux }>();

/**
 * Returns the vmlinux at a path. It is cached for the life of the process as long as the file's mtime stays the same, by its
 * canonical path. Null if there is no such file. Throws `FormatError` or `SyscallError` if it cannot be read; errors are not
 * cached.
 */
export function loadVmlinux(path: string): Vmlinux | null {
  const canonical = canonicalPath(path);
  if (canonical === undefined) return null;
  const { mtimeNs } = statSync(canonical, { bigint: true });
  const known = cache.get(canonical);
  if (known?.mtimeNs === mtimeNs) return known.vmlinux;
  cache.delete(canonical);
  const vmlinux = new Vmlinux(canonical);
  cache.set(canonical, { mtimeNs, vmlinux });
  return vmlinux;
}

function canonicalPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/**
 * Finds the vmlinux of a kernel image at the paths used by build trees and distributions; null if there is none. `root` is
 * the directory for absolute paths.
 */
export function findVmlinux(image: string, root: string = "/"): string | null {
  for (const place of placesFor(image, root)) if (isFile(place)) return place;
  return null;
}

function placesFor(image: string, root: string): string[] {
  const places: string[] = [];
  // A bare file name does not give the image's directory.
  if (image.includes("/")) {
    const directory = dirname(image);
    places.push(join(directory, "vmlinux"));
    if (/(^|\/)arch\/[^/]+\/boot$/.test(directory)) places.push(join(directory, "../../../vmlinux"));
  }
  const inModules = /(?:^|\/)lib\/modules\/([^/]+)\/vmlinuz$/.exec(image);
  if (inModules !== null) {
    const version = inModules[1]!;
    places.push(join(dirname(image), "build/vmlinux"), join(root, `boot/vmlinux-${version}`));
    places.push(...debugPlaces(version, root));
  }
  const suffixed = /^vmlinuz-(.+)$/.exec(basename(image));
  if (suffixed !== null) {
    const version = suffixed[1]!;
    places.push(join(root, `usr/lib/debug/boot/vmlinux-${version}`), join(root, `boot/vmlinux-${version}`));
    places.push(join(root, `lib/modules/${version}/build/vmlinux`), ...debugPlaces(version, root));
  }
  return places;
}

function debugPlaces(version: string, root: string): string[] {
  return [
    join(root, `usr/lib/debug/lib/modules/${version}/vmlinux`),
    join(root, `usr/lib/debug/vmlinux-${version}`),
  ];
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
