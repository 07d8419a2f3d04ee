/** Writes cpio archives in the format of an initramfs, "newc" (Documentation/driver-api/early-userspace/buffer-format.rst). */

export type CpioEntry =
  | { readonly kind: "file"; readonly path: string; readonly data: Uint8Array; readonly executable?: boolean }
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | { readonly kind: "device"; readonly path: string; readonly major: number; readonly minor: number };

const encoder = new TextEncoder();

function modeOf(entry: CpioEntry): number {
  switch (entry.kind) {
    case "file":
      return 0o100000 | (entry.executable === true ? 0o755 : 0o644);
    case "directory":
      return 0o040755;
    case "symlink":
      return 0o120777;
    case "device":
      return 0o020600;
  }
}

const padding = (size: number): Uint8Array => new Uint8Array((4 - (size % 4)) % 4);

function record(
  index: number,
  path: string,
  mode: number,
  data: Uint8Array,
  device: [number, number],
): Uint8Array[] {
  const name = encoder.encode(`${path}\0`);
  // c_ino, c_mode, c_uid, c_gid, c_nlink, c_mtime, c_filesize, c_maj, c_min, c_rmaj, c_rmin, c_namesize, c_chksum
  const fields = [index, mode, 0, 0, 1, 0, data.length, 0, 0, ...device, name.length, 0];
  const header = encoder.encode(
    `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`,
  );
  return [header, name, padding(header.length + name.length), data, padding(data.length)];
}

/** Returns the entries with their parent folders before them. The kernel does not create parents. */
function withParents(entries: readonly CpioEntry[]): CpioEntry[] {
  const made = new Set<string>();
  const all: CpioEntry[] = [];
  for (const entry of entries) {
    const parts = entry.path.split("/");
    for (let depth = 1; depth < parts.length; depth++) {
      const parent = parts.slice(0, depth).join("/");
      if (made.has(parent)) continue;
      made.add(parent);
      all.push({ kind: "directory", path: parent });
    }
    made.add(entry.path);
    all.push(entry);
  }
  return all;
}

/** Returns an archive. Paths are relative ("bin/sh"); parents are added. Archives can be concatenated. */
export function cpio(entries: readonly CpioEntry[]): Uint8Array<ArrayBuffer> {
  const chunks: Uint8Array[] = [];
  let index = 1;
  for (const entry of withParents(entries)) {
    const data =
      entry.kind === "file"
        ? entry.data
        : entry.kind === "symlink"
          ? encoder.encode(entry.target)
          : new Uint8Array(0);
    const device: [number, number] = entry.kind === "device" ? [entry.major, entry.minor] : [0, 0];
    chunks.push(...record(index++, entry.path, modeOf(entry), data, device));
  }
  chunks.push(...record(0, "TRAILER!!!", 0, new Uint8Array(0), [0, 0]));
  return Bun.concatArrayBuffers(chunks as Uint8Array<ArrayBuffer>[], Number.POSITIVE_INFINITY, true);
}
