/**
 * State files of Firecracker and Cloud Hypervisor, written from their sources' descriptions: Firecracker's src/snapshot/src/lib.rs,
 * src/vmm/src/snapshot/mod.rs, src/vmm/src/persist.rs, src/vmm/src/vstate/memory.rs; Cloud Hypervisor's vm-migration/src/lib.rs,
 * vm-migration/src/protocol.rs, vmm/src/memory_manager.rs. bincode: little-endian, integers of fixed size, lengths as u64.
 */

const MIB = 2 ** 20;

export interface Region {
  readonly first: number;
  readonly length: number;
  /** A region that can be plugged, by slot; without it, RAM in one slot. */
  readonly plugged?: readonly boolean[];
}

const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
};
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const string = (text: string): Buffer => Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);

/** CRC-64 of Jones, bit by bit. Its check value for "123456789" is 0xe9c6d914c4b8d9ca (the crc64 package's documentation). */
export function crc64Bits(bytes: Uint8Array): bigint {
  let crc = 0n;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1n) === 0n ? crc >> 1n : (crc >> 1n) ^ 0x95ac9329ac4bc9b5n;
  }
  return crc;
}

/**
 * The layouts of releases: versionize with offsets in the file, serde with them, serde without them, and serde with slots, where the
 * regions are in the VM's state.
 */
export const FIRECRACKER_FORMS = ["versionize", "offsets", "plain", "slots"] as const;
export type FirecrackerForm = (typeof FIRECRACKER_FORMS)[number];

export interface FirecrackerOptions {
  readonly form: FirecrackerForm;
  readonly machine: "x86_64" | "aarch64";
  readonly regions: readonly Region[];
  /** Size of the RAM; by default the sum of the regions that cannot be plugged. */
  readonly ramMib?: number;
  /** A second table of regions after the state. */
  readonly more?: readonly Region[];
}

/** `GuestMemoryState`: a `Vec` of regions. */
function regionTable(regions: readonly Region[], form: FirecrackerForm): Buffer {
  let offset = 0;
  const parts = regions.map(({ first, length, plugged }) => {
    const place = [u64(first), u64(length)];
    if (form === "versionize" || form === "offsets") place.push(u64(offset));
    if (form === "slots") {
      const slots = plugged ?? [true];
      place.push(u32(plugged === undefined ? 0 : 1), u64(slots.length), Buffer.from(slots.map(Number)));
    }
    offset += length;
    return Buffer.concat(place);
  });
  return Buffer.concat([u64(regions.length), ...parts]);
}

/** Bytes like those of a CPU's state: small numbers in u64, zeros, and noise, the same in each call. */
function cpuState(words: number): Buffer {
  const parts: Buffer[] = [];
  let state = 1n;
  for (let index = 0; index < words; index++) {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffff_ffff_ffff_ffffn;
    parts.push(u64(index % 3 === 0 ? state : index % 3 === 1 ? index % 17 : 0));
  }
  return Buffer.concat(parts);
}

/** Returns the bytes of a state file without its CRC. */
function firecrackerBody({ form, machine, regions, ramMib, more }: FirecrackerOptions): Buffer {
  const isOld = form === "versionize";
  const magic = machine === "x86_64" ? 0x0710_1984_8664_0000n : 0x0710_1984_aaaa_0000n;
  const ram = regions.filter((each) => each.plugged === undefined);
  const sizeMib = ramMib ?? ram.reduce((sum, { length }) => sum + length, 0) / MIB;
  const bootSource = [string("/srv/vmlinux"), Buffer.from([0]), Buffer.from([1]), string("console=ttyS0")];
  const hugePages = isOld ? [] : [u32(0)];
  const vmInfo = [u64(sizeMib), Buffer.from([0]), u32(0), ...bootSource, ...hugePages];
  const kvmState = form === "slots" ? [u64(2), u32(1), u32(2)] : [];
  return Buffer.concat([
    u64(magic + (isOld ? 1n : 0n)),
    isOld ? u16(5) : string("4.0.0"),
    ...vmInfo,
    ...kvmState,
    regionTable(regions, form),
    cpuState(2000),
    ...(more === undefined ? [] : [regionTable(more, form)]),
  ]);
}

export function firecrackerState(options: FirecrackerOptions): Buffer {
  return withCrc(firecrackerBody(options));
}

/** Adds the CRC as u64. */
export const withCrc = (body: Buffer): Buffer => Buffer.concat([body, u64(crc64Bits(body))]);

/** The layouts of releases: JSON in a text, JSON as bytes, versionize as bytes, and a named section with such bytes. */
export const CLOUD_HYPERVISOR_FORMS = ["text", "bytes", "versionize", "section"] as const;
export type CloudHypervisorForm = (typeof CLOUD_HYPERVISOR_FORMS)[number];

/** Returns a state.json. */
export function cloudHypervisorState(form: CloudHypervisorForm, regions: readonly Region[]): string {
  const data = regions.map(({ first, length }) => ({ gpa: first, length }));
  const state = {
    memory_ranges: { data },
    guest_ram_mappings: data.map(({ gpa, length }, slot) => ({ slot, gpa, size: length, zone_id: "mem0" })),
    start_of_device_area: 2 ** 40,
  };
  const json = JSON.stringify(state);
  const pairs = data.flatMap(({ gpa, length }) => [u64(gpa), u64(length)]);
  const versionized = [...Buffer.concat([u64(data.length), ...pairs, cpuState(20)])];
  const snapshotData = {
    text: { state: json },
    bytes: [...Buffer.from(json)],
    versionize: versionized,
    section: { "memory-manager-section": { id: "memory-manager-section", snapshot: versionized } },
  }[form];
  const leaf = { snapshots: {}, snapshot_data: { state: "{}" } };
  return JSON.stringify({
    snapshots: {
      "cpu-manager": { snapshots: { "0": leaf }, snapshot_data: null },
      "device-manager": leaf,
      "memory-manager": { snapshots: {}, snapshot_data: snapshotData },
    },
    snapshot_data: { state: "{}" },
  });
}
