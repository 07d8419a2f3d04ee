/** Reads BTF objects of the running kernel: `BPF_BTF_GET_FD_BY_ID`, then one call for the size and one for the bytes. */
import { Btf } from "../btf/btf.ts";
import { KtstrError, SyscallError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import type { BtfInfo } from "../state.ts";
import { BTF_INFO } from "../uapi/bpf.ts";
import { cutAtNul } from "../uapi/layout.ts";
import { Attr } from "./attr.ts";
import { BTFS, forEachObject, objectInfo, openIdOrThrow, pinned } from "./objects.ts";
import type { Sys } from "./sys.ts";

const NAME_BYTES = 64;
/** User space can load at most 16 MiB (`BTF_MAX_SIZE`); the kernel's own BTF is below this limit. */
const MAX_BTF_BYTES = 256 * 1024 * 1024;

/** Reads `struct bpf_btf_info` of a descriptor. */
export function readBtfInfo(sys: Sys, fd: Fd, object: string): BtfInfo {
  const name = pinned(NAME_BYTES);
  const info = new Attr(BTF_INFO, { name_len: NAME_BYTES }).point("name", name);
  objectInfo(sys, fd, BTF_INFO, object, info.bytes);
  return {
    id: info.get("id"),
    sizeBytes: info.get("btf_size"),
    name: cutAtNul(name),
    kernel: info.get("kernel_btf") === 1,
  };
}

export function collectBtfs(sys: Sys, warn: (sentence: string) => void): BtfInfo[] {
  const infos: BtfInfo[] = [];
  forEachObject(sys, BTFS, warn, (id, fd) => {
    using owned = fd;
    infos.push(readBtfInfo(sys, owned, `BTF object ${id}`));
  });
  return infos;
}

/** Returns the raw bytes of a BTF object and its attributes. A module's BTF is split: its base is vmlinux's. */
function readBtfBytes(sys: Sys, id: number): { info: BtfInfo; bytes: Uint8Array } {
  using fd = openIdOrThrow(sys, BTFS, id);
  const object = `BTF object ${id}`;
  const info = readBtfInfo(sys, fd, object);
  if (info.sizeBytes > MAX_BTF_BYTES)
    throw new KtstrError(`${object}: the kernel reports ${info.sizeBytes} bytes, which is not plausible`);
  const bytes = pinned(info.sizeBytes);
  const second = new Attr(BTF_INFO, { btf_size: info.sizeBytes }).point("btf", bytes);
  objectInfo(sys, fd, BTF_INFO, object, second.bytes);
  return { info, bytes: bytes.subarray(0, info.sizeBytes) };
}

const VMLINUX_BTF = "/sys/kernel/btf/vmlinux";

/** BTF objects by id, each parsed once. */
export class BtfCache {
  readonly #sys: Sys;
  readonly #byId = new Map<number, Btf>();
  #vmlinux: Btf | undefined;

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** The kernel's own types. Throws `KtstrError` if the kernel was built without BTF or this process may not read it. */
  vmlinux(): Btf {
    if (this.#vmlinux === undefined) {
      const bytes = this.#sys.readFile(VMLINUX_BTF) ?? this.#vmlinuxById();
      if (bytes === undefined) {
        throw new KtstrError(
          `the kernel's BTF: ${VMLINUX_BTF} cannot be read, and no BTF object is named vmlinux`,
          {
            hint: "the kernel needs CONFIG_DEBUG_INFO_BTF",
          },
        );
      }
      this.#vmlinux = Btf.parse(bytes, { name: "vmlinux" });
    }
    return this.#vmlinux;
  }

  /** If /sys is not mounted: the kernel's own BTF is also one of its BTF objects (kernel/bpf/btf.c, 5.11). */
  #vmlinuxById(): Uint8Array | undefined {
    try {
      const own = collectBtfs(this.#sys, () => {}).find(
        ({ kernel, name }) => kernel && Buffer.from(name).toString() === "vmlinux",
      );
      return own === undefined ? undefined : readBtfBytes(this.#sys, own.id).bytes;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      throw new KtstrError(`the kernel's BTF: ${VMLINUX_BTF} cannot be read, and ${error.message}`, {
        hint: `mount /sys (mount -t sysfs sysfs /sys), or: ${error.hint}`,
      });
    }
  }

  /** Throws `SyscallError`, or `FormatError` if the bytes are not BTF. */
  byId(id: number): Btf {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    const { info, bytes } = readBtfBytes(this.#sys, id);
    const name = new TextDecoder().decode(info.name);
    let btf: Btf;
    if (!info.kernel) btf = Btf.parse(bytes, { name: `BTF object ${id}` });
    else if (name === "vmlinux") btf = this.vmlinux();
    else btf = Btf.parse(bytes, { base: this.vmlinux(), name });
    this.#byId.set(id, btf);
    return btf;
  }
}
