/**
 * Reads the older cgroup storage, with one value (or one per CPU) for each program's attachment:
 * `struct bpf_cgroup_storage_map` has a list of `struct bpf_cgroup_storage` (kernel/bpf/local_storage.c).
 */
import { place, ptr, struct } from "../../../btf/struct.ts";
import type { EntryCursor } from "../../../state.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { add, type Pointer } from "../../memory/pointer.ts";
import { countNodes } from "./chain.ts";
import { PerCpuValue, perCpuShape } from "./percpu-value.ts";
import { readSpecialFields } from "./special-fields.ts";
import { PerCpuReader, PointerReader, type ValueReader } from "./value-reader.ts";
import { BaseCursor, CorruptMap, type GuestMap, mostObjects, shapeOf } from "./walk.ts";

const MAP = struct("bpf_cgroup_storage_map", { list: place });
const STORAGE = struct("bpf_cgroup_storage", { buf: ptr, key: place, list_map: place });
const BUFFER = struct("bpf_storage_buffer", { data: place });
/** `struct bpf_cgroup_storage_key`, or only the cgroup's id. */
const MAX_KEY_BYTES = 16;
/** Limit: a value and its header fit in a page. */
const MAX_VALUE_BYTES = 65_536;

/** Walks the list, which has the newest attachment first. Throws `GuestFault` and `CorruptMap`. */
export function cgroupStorageEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  return new CgroupStorageCursor(kernel, map);
}

class CgroupStorageCursor extends BaseCursor {
  readonly #kernel: GuestKernel;
  readonly #reader: ValueReader;
  readonly #listHead: Pointer;
  #node: Pointer;
  #left: number;

  constructor(kernel: GuestKernel, map: GuestMap) {
    const isPerCpu = map.info.type === MapType.percpu_cgroup_storage;
    super(isPerCpu ? perCpuShape(kernel, map) : shapeOf(map));
    const { keySize, valueSize, id } = map.info;
    if (keySize > MAX_KEY_BYTES || valueSize > MAX_VALUE_BYTES)
      throw new CorruptMap(
        `map ${id}: cgroup storage cannot have keys of ${keySize} and values of ${valueSize} bytes`,
      );
    this.#kernel = kernel;
    this.keyBytes = new Uint8Array(keySize);
    this.#reader = isPerCpu
      ? new PerCpuReader(new PerCpuValue(kernel, map))
      : new PointerReader(kernel.memory, {
          offset: BUFFER.resolve(kernel.btf).data,
          size: valueSize,
          fields: readSpecialFields(kernel, map),
        });
    this.#listHead = add(map.at, MAP.resolve(kernel.btf).list);
    const { hi, lo } = this.#listHead;
    this.#node = kernel.memory.pointer(hi, lo, 0, `map ${id}.list`);
    // The list is circular: the walk ends at the head.
    const left = 4 * mostObjects(kernel, STORAGE.resolve(kernel.btf).sizeof);
    this.#left = countNodes(kernel.memory, this.#node.hi, this.#node.lo, 0, { left });
  }

  protected advance(): boolean {
    const { memory, btf } = this.#kernel;
    const storage = STORAGE.resolve(btf);
    while (this.account.stopped === "") {
      const { hi, lo } = this.#node;
      if (hi === this.#listHead.hi && lo === this.#listHead.lo) return false;
      if (this.#left-- <= 0) {
        this.account.skip("cycle");
        return false;
      }
      const at = memory.locate(hi, lo, -storage.list_map, storage.sizeof);
      if (at < 0) {
        this.account.skip("not-present");
        return false;
      }
      const { view, bytes } = memory;
      const nextAt = at + storage.list_map;
      this.#node = { hi: view.getInt32(nextAt + 4, true), lo: view.getInt32(nextAt, true) };
      this.keyBytes.set(bytes.subarray(at + storage.key, at + storage.key + this.keySize));
      if (this.#reader.read(bytes, view, at + storage.buf)) {
        this.valueBytes = this.#reader.bytes;
        this.account.seen();
        return true;
      }
      this.account.skip("not-present");
    }
    return false;
  }
}
