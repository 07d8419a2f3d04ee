/** Kernel objects of the tests, created through ktstr's FFI layer and freed with the kit that created them. */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bpf, close, type PinnedBytes } from "../../src/ffi.ts";
import { Attr } from "../../src/live/attr.ts";
import { pinned } from "../../src/live/objects.ts";
import { type BpfCommand, COMMANDS, ELEMENT_ATTR, MAP_CREATE_ATTR, OBJ_ATTR } from "../../src/uapi/bpf.ts";
import { errnoName } from "../../src/uapi/errno.ts";
import { MapType, type MapTypeName } from "../../src/uapi/names.ts";
import { run } from "../btf/support/live.ts";

/** A kernel object that is held by a descriptor. */
export interface Held {
  readonly id: number;
  readonly fd: number;
}

export interface HeldMap extends Held {
  readonly keySize: number;
  readonly valueSize: number;
}

export interface MapOptions {
  readonly type: MapTypeName;
  readonly keySize?: number;
  readonly valueSize?: number;
  readonly maxEntries?: number;
  readonly flags?: number;
  readonly name?: string;
  readonly innerFd?: number;
  readonly btfFd?: number;
  readonly btfKeyTypeId?: number;
  readonly btfValueTypeId?: number;
  readonly btfVmlinuxValueTypeId?: number;
  readonly mapExtra?: number;
}

/** Runs a command that must succeed; the error has the errno. */
export function must(command: BpfCommand, attr: Attr, what = ""): number {
  const result = bpf(COMMANDS[command], attr.bytes);
  if (result < 0) throw new Error(`${command} ${what}: ${errnoName(-result)}`);
  return result;
}

/** Returns a number of a descriptor's fdinfo, from the kernel and not from the code under test. */
export function fdInfo(fd: number, key: string): number {
  const match = new RegExp(`^${key}:\\s*(\\d+)`, "m").exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"));
  return Number(match?.[1] ?? Number.NaN);
}

/**
 * Returns the number of this process's descriptors of kinds that the code under test opens: BPF objects, and the kernel's files.
 * The runtime has others, and closes those of a finished command at any time.
 */
export function fdCount(): number {
  const isOurs = (target: string): boolean => /^(anon_inode:\[?(bpf|btf)|\/proc\/|\/sys\/)/.test(target);
  return readdirSync("/proc/self/fd").filter((number) => isOurs(targetOf(number))).length;
}

/** Returns "" for the descriptor of the folder that is read, because it is already closed. */
function targetOf(number: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${number}`);
  } catch {
    return "";
  }
}

/** Returns numbers as `u32` little-endian bytes that do not move in memory. */
export function u32(...values: number[]): PinnedBytes {
  const bytes = pinned(values.length * 4).subarray(0, values.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setUint32(index * 4, value, true);
  return bytes;
}

export function u64(...values: (number | bigint)[]): PinnedBytes {
  const bytes = pinned(values.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) view.setBigUint64(index * 8, BigInt(value), true);
  return bytes;
}

/** A C string. */
export function text(value: string): PinnedBytes {
  return pinBytes(Buffer.from(`${value}\0`));
}

/** Copies bytes to memory that does not move. */
export function pinBytes(from: Uint8Array): PinnedBytes {
  const bytes = pinned(from.length);
  bytes.set(from);
  return bytes.subarray(0, from.length);
}

/** Owns the objects that it creates: descriptors, a bpffs, files. Disposal removes them, the newest first. */
export class Kit implements Disposable {
  readonly #undo: (() => void)[] = [];
  #directory: string | undefined;
  #bpffs: string | undefined;

  defer(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** Takes ownership of a descriptor. */
  own(fd: number, idKey: "map_id" | "prog_id" | "link_id" | "btf_id"): Held {
    let open = true;
    this.defer(() => {
      if (open) close(fd);
      open = false;
    });
    return { fd, id: fdInfo(fd, idKey) };
  }

  map(options: MapOptions): HeldMap {
    const { type, keySize = 4, valueSize = 4, maxEntries = 4, name = "" } = options;
    const attr = new Attr(MAP_CREATE_ATTR, {
      map_type: MapType[type],
      key_size: keySize,
      value_size: valueSize,
      max_entries: maxEntries,
      map_flags: options.flags ?? 0,
      inner_map_fd: options.innerFd ?? 0,
      btf_fd: options.btfFd ?? 0,
      btf_key_type_id: options.btfKeyTypeId ?? 0,
      btf_value_type_id: options.btfValueTypeId ?? 0,
      btf_vmlinux_value_type_id: options.btfVmlinuxValueTypeId ?? 0,
      map_extra: options.mapExtra ?? 0,
    }).setBytes("map_name", Buffer.from(name));
    const held = this.own(must("BPF_MAP_CREATE", attr, type), "map_id");
    return { ...held, keySize, valueSize };
  }

  /** Returns `value` as the kernel expects it: for a per-CPU map one copy per possible CPU, each rounded up to 8 bytes. */
  update(map: HeldMap, key: Uint8Array, value: Uint8Array, flags = 0): void {
    const attr = new Attr(ELEMENT_ATTR, { map_fd: map.fd, flags }).point("value", pinBytes(value));
    if (key.length > 0) attr.point("key", pinBytes(key));
    must("BPF_MAP_UPDATE_ELEM", attr, `map ${map.id}`);
  }

  remove(map: HeldMap, key: Uint8Array): void {
    must("BPF_MAP_DELETE_ELEM", new Attr(ELEMENT_ATTR, { map_fd: map.fd }).point("key", pinBytes(key)));
  }

  /** Adds `count` elements with u32 keys, and values that repeat the key's bytes. */
  fill(map: HeldMap, count: number): void {
    const key = pinned(map.keySize);
    const value = pinned(map.valueSize);
    const keyView = new DataView(key.buffer);
    const attr = new Attr(ELEMENT_ATTR, { map_fd: map.fd }).point("key", key).point("value", value);
    for (let n = 0; n < count; n++) {
      keyView.setUint32(0, n, true);
      value.fill(n & 0xff);
      must("BPF_MAP_UPDATE_ELEM", attr, `map ${map.id}`);
    }
  }

  freeze(map: Held): void {
    must("BPF_MAP_FREEZE", new Attr(ELEMENT_ATTR, { map_fd: map.fd }));
  }

  /** Returns a directory of the kit. */
  get directory(): string {
    if (this.#directory === undefined) {
      const path = mkdtempSync(join(tmpdir(), "ktstr-test-"));
      this.#directory = path;
      this.defer(() => rmSync(path, { recursive: true, force: true }));
    }
    return this.#directory;
  }

  /** Returns a bpffs of the kit, mounted on its own directory. */
  get bpffs(): string {
    if (this.#bpffs === undefined) {
      const path = mkdtempSync(join(tmpdir(), "ktstr-bpffs-"));
      run("mount", "-t", "bpf", "bpf", path);
      this.#bpffs = path;
      this.defer(() => {
        run("umount", path);
        rmdirSync(path);
      });
    }
    return this.#bpffs;
  }

  /** Pins an object under a name in the kit's bpffs, and returns the path. */
  pin(object: Held, name: string): string {
    const path = join(this.bpffs, name);
    must("BPF_OBJ_PIN", new Attr(OBJ_ATTR, { bpf_fd: object.fd }).point("pathname", text(path)), path);
    return path;
  }

  [Symbol.dispose](): void {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) undo();
  }
}
