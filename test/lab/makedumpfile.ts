/** Runs makedumpfile of Debian sid, and writes cores that it can read. */
import { realpathSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { triplet } from "./initramfs.ts";
import { packageTree } from "./packages.ts";
import { run } from "./process.ts";
import { hostArch } from "./toolchain.ts";

const packages = [
  "makedumpfile",
  ...["libc6", "libdw1t64", "libelf1t64", "zlib1g", "libbz2-1.0", "liblzma5", "liblzo2-2", "libzstd1"],
];

/** Runs makedumpfile with its own loader and libraries. Returns its standard output. Throws `LabError` if it fails. */
export async function makedumpfile(...args: readonly string[]): Promise<Uint8Array<ArrayBuffer>> {
  const arch = hostArch();
  const tree = await packageTree("sid", arch, packages);
  const libraries = join(tree, "usr/lib", triplet[arch]);
  const loader = realpathSync(
    join(libraries, arch === "amd64" ? "ld-linux-x86-64.so.2" : "ld-linux-aarch64.so.1"),
  );
  return run([loader, "--library-path", libraries, join(tree, "usr/bin/makedumpfile"), ...args]);
}

const PAGE = 4096;
const EHDR_BYTES = 64;
const PHDR_BYTES = 56;

/**
 * Writes memory that begins at physical address 0 as an ELF core with a VMCOREINFO note, like /proc/vmcore. A core of QEMU
 * cannot be used: its section headers are before the program headers, which makedumpfile 1.7 does not support.
 */
export async function writeCore(memoryPath: string, vmcoreinfo: string, corePath: string): Promise<void> {
  const memory = Bun.file(memoryPath);
  const name = Buffer.from("VMCOREINFO\0\0");
  const text = Buffer.from(vmcoreinfo, "latin1");
  const noteBytes = 12 + name.length + Math.ceil(text.length / 4) * 4;
  const noteAt = EHDR_BYTES + 2 * PHDR_BYTES;
  const dataAt = Math.ceil((noteAt + noteBytes) / PAGE) * PAGE;
  const head = Buffer.alloc(dataAt);
  head.write("\x7fELF\x02\x01\x01", "latin1");
  head.writeUInt16LE(4, 16); // ET_CORE
  head.writeUInt16LE(62, 18); // EM_X86_64
  head.writeUInt32LE(1, 20);
  head.writeBigUInt64LE(BigInt(EHDR_BYTES), 32);
  head.writeUInt16LE(EHDR_BYTES, 52);
  head.writeUInt16LE(PHDR_BYTES, 54);
  head.writeUInt16LE(2, 56);
  const segment = (index: number, type: number, offset: number, size: number): void => {
    const at = EHDR_BYTES + index * PHDR_BYTES;
    head.writeUInt32LE(type, at);
    for (const [field, value] of [offset, 0, 0, size, size].entries())
      head.writeBigUInt64LE(BigInt(value), at + 8 + 8 * field);
  };
  segment(0, 4, noteAt, noteBytes); // PT_NOTE
  segment(1, 1, dataAt, memory.size); // PT_LOAD
  head.writeUInt32LE(name.length - 1, noteAt);
  head.writeUInt32LE(text.length, noteAt + 4);
  name.copy(head, noteAt + 12);
  text.copy(head, noteAt + 12 + name.length);
  await using core = await open(corePath, "w");
  await core.write(head);
  for (let at = 0; at < memory.size; at += 2 ** 24) {
    const part = new Uint8Array(await memory.slice(at, at + 2 ** 24).arrayBuffer());
    await core.write(part, 0, part.length, dataAt + at);
  }
}
