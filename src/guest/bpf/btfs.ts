/** Reads BTF objects: `struct idr btf_idr` -> every `struct btf`. */
import { Btf } from "../../btf/btf.ts";
import { at, bytes, i32, optional, ptr, struct, u8, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { BtfInfo } from "../../state.ts";
import { cutAtNul } from "../../uapi/layout.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listObjects, type Warn } from "../kernel/listing.ts";
import { LOCATE_MAX_BYTES } from "../memory/memory.ts";
import { hex, isNull, NULL, type Pointer } from "../memory/pointer.ts";

/** MODULE_NAME_LEN: 64 minus the size of an unsigned long (include/linux/module.h). */
const NAME_BYTES = 56;

const BTF = struct("btf", {
  id: u32,
  refcnt: at(i32, "refcnt.refs.counter"),
  data: ptr,
  data_size: u32,
  // Since 5.11 the kernel's own types and those of its modules are among these objects.
  base_btf: optional(ptr, "since 5.11"),
  name: optional(bytes(NAME_BYTES), "since 5.11"),
  kernel_btf: optional(u8, "since 5.11"),
});

interface BtfObject {
  readonly info: BtfInfo;
  readonly address: Pointer;
}

/** Every BTF object of a kernel. Listed once, and parsed lazily. */
export class GuestBtfs {
  readonly #kernel: GuestKernel;
  readonly #warn: Warn;
  #objects: readonly BtfObject[] | undefined;
  readonly #parsed: Map<string, Btf> = new Map();

  constructor(kernel: GuestKernel, warn: Warn) {
    this.#kernel = kernel;
    this.#warn = warn;
  }

  /** Returns every object, by ascending id. */
  infos(): readonly BtfInfo[] {
    return this.#list().map(({ info }) => info);
  }

  /** Throws `KtstrError` if there is no object with this id or it cannot be read; `FormatError` if its bytes are not BTF. */
  byId(id: number): Btf {
    const object = this.#list().find(({ info }) => info.id === id);
    if (object === undefined) throw new KtstrError(`BTF object ${id}: btf_idr has no object with this id`);
    return this.at(object.address);
  }

  /**
   * Returns the types of a `struct btf *` (`data`, `data_size`). A module's types have the kernel's as their base, which is not
   * read again. Throws like `byId`.
   */
  at(address: Pointer): Btf {
    const where = hex(address.hi, address.lo);
    const known = this.#parsed.get(where);
    if (known !== undefined) return known;
    const parsed = this.#parse(address, `BTF object at ${where}`);
    this.#parsed.set(where, parsed);
    return parsed;
  }

  #parse({ hi, lo }: Pointer, object: string): Btf {
    const { memory, btf: kernelBtf } = this.#kernel;
    const layout = BTF.resolve(kernelBtf);
    const { base_btf, kernel_btf } = layout;
    const isKernel = kernel_btf !== undefined && memory.u8(hi, lo, kernel_btf, "btf.kernel_btf") !== 0;
    const base = base_btf === undefined ? NULL : memory.pointer(hi, lo, base_btf, "btf.base_btf");
    if (isKernel && isNull(base)) return kernelBtf;
    const size = memory.u32(hi, lo, layout.data_size, "btf.data_size");
    if (size > LOCATE_MAX_BYTES)
      throw new KtstrError(`${object}: its size of ${size} bytes is not plausible`);
    const data = memory.pointer(hi, lo, layout.data, "btf.data");
    const raw = memory.copy(data.hi, data.lo, 0, size, "btf.data");
    const name = Buffer.from(nameIn(memory.copy(hi, lo, 0, layout.sizeof, "btf"), layout.name)).toString();
    return Btf.parse(raw, { base: isKernel ? kernelBtf : undefined, name: name === "" ? object : name });
  }

  #list(): readonly BtfObject[] {
    this.#objects ??= listObjects(
      this.#kernel,
      "btf_idr",
      "BTF object",
      (address, id) => this.#read(address, id),
      this.#warn,
    );
    return this.#objects;
  }

  #read(address: Pointer, id: number): BtfObject | string {
    const layout = BTF.resolve(this.#kernel.btf);
    const raw = this.#kernel.memory.copy(address.hi, address.lo, 0, layout.sizeof, "btf");
    const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
    if (view.getUint32(layout.id, true) !== id) return "its id member differs";
    if (view.getInt32(layout.refcnt, true) <= 0) return "being freed";
    const info: BtfInfo = {
      id,
      sizeBytes: view.getUint32(layout.data_size, true),
      name: nameIn(raw, layout.name),
      kernel: layout.kernel_btf !== undefined && view.getUint8(layout.kernel_btf) !== 0,
    };
    return { info, address };
  }
}

/** Reads `btf.name` in the bytes of a `struct btf`; empty if the kernel's struct has no name. */
function nameIn(object: Uint8Array, offset: number | undefined): Uint8Array {
  return offset === undefined ? new Uint8Array(0) : cutAtNul(object.subarray(offset, offset + NAME_BYTES));
}
