/** Reads arrays of pointers that user space sees as other values: programs, maps, devices, CPUs, sockets. */
import { place, ptr, struct } from "../../../btf/struct.ts";
import type { EntryCursor } from "../../../state.ts";
import { ENOENT, ENOSPC, strerror } from "../../../uapi/errno.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { add, type Pointer } from "../../memory/pointer.ts";
import { mapIdReader, progIdReader } from "./object-id.ts";
import { socketReader } from "./socket.ts";
import { ObjectIdReader, PointerReader, type ValueReader } from "./value-reader.ts";
import { type GuestMap, IndexCursor, shapeOf } from "./walk.ts";

const BPF_ARRAY = struct("bpf_array", { ptrs: place });
const DTAB = struct("bpf_dtab", { netdev_map: ptr });
const DTAB_NETDEV = struct("bpf_dtab_netdev", { val: place });
const CPU_MAP = struct("bpf_cpu_map", { cpu_map: ptr });
const CPU_MAP_ENTRY = struct("bpf_cpu_map_entry", { value: place });
const STAB = struct("bpf_stab", { sks: ptr });
const REUSEPORT = struct("reuseport_array", { ptrs: place });

/** Address of the first pointer, the reader of values, and the message for NULL; if undefined, the index is left out. */
interface PointerTable {
  readonly at: Pointer;
  readonly reader: ValueReader;
  readonly empty: string | undefined;
}

/** Walks the indexes. Throws `GuestFault`. */
export function pointerArrayEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory } = kernel;
  const { at: table, reader, empty } = tableOf(kernel, map);
  const bounds = { count: map.info.maxEntries, bytesEach: 8 };
  return new IndexCursor(kernel, shapeOf(map), bounds, (index, cursor) => {
    const at = memory.locate(table.hi, table.lo, index * 8, 8);
    if (at < 0) return cursor.account.skip("not-present");
    if ((memory.view.getInt32(at, true) | memory.view.getInt32(at + 4, true)) === 0) {
      if (empty === undefined) return "hole";
      cursor.valueMissing = empty;
      return "value";
    }
    if (!reader.read(memory.bytes, memory.view, at)) return cursor.account.skip("not-present");
    cursor.valueMissing = reader.missing;
    cursor.valueBytes = reader.bytes;
    return "value";
  });
}

function tableOf(kernel: GuestKernel, map: GuestMap): PointerTable {
  const { btf, memory } = kernel;
  const { type, id } = map.info;
  const memberPointer = (offset: number, name: string): Pointer =>
    memory.pointer(map.at.hi, map.at.lo, offset, `map ${id}.${name}`);
  const noEntry = strerror(ENOENT);
  switch (type) {
    case MapType.prog_array:
      return {
        at: add(map.at, BPF_ARRAY.resolve(btf).ptrs),
        reader: new ObjectIdReader(progIdReader(kernel)),
        empty: undefined,
      };
    case MapType.array_of_maps:
      return {
        at: add(map.at, BPF_ARRAY.resolve(btf).ptrs),
        reader: new ObjectIdReader(mapIdReader(kernel)),
        empty: undefined,
      };
    case MapType.devmap: {
      const reader = entryReader(kernel, map, DTAB_NETDEV.resolve(btf).val);
      return { at: memberPointer(DTAB.resolve(btf).netdev_map, "netdev_map"), reader, empty: noEntry };
    }
    case MapType.cpumap: {
      const reader = entryReader(kernel, map, CPU_MAP_ENTRY.resolve(btf).value);
      return { at: memberPointer(CPU_MAP.resolve(btf).cpu_map, "cpu_map"), reader, empty: noEntry };
    }
    case MapType.sockmap:
      return { at: memberPointer(STAB.resolve(btf).sks, "sks"), ...sockets(kernel, map) };
    default:
      return { at: add(map.at, REUSEPORT.resolve(btf).ptrs), ...sockets(kernel, map) };
  }
}

/** `struct bpf_devmap_val` and `struct bpf_cpumap_val`: 8 bytes, or only their first 4. */
function entryReader({ memory }: GuestKernel, { info }: GuestMap, offset: number): ValueReader {
  return new PointerReader(memory, { offset, size: Math.min(info.valueSize, 8), fields: [] });
}

/** User space only gets a socket's cookie, and only if values have 8 bytes. */
function sockets(kernel: GuestKernel, { info }: GuestMap): Pick<PointerTable, "reader" | "empty"> {
  const reader = socketReader(kernel, info.valueSize);
  return { reader, empty: info.valueSize === 8 ? strerror(ENOENT) : strerror(ENOSPC) };
}
