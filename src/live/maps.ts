/** Lists the maps of the running kernel and holds descriptors of those that are to be read. */
import type { PinAccessor, PinnedKind } from "../attachments.ts";
import { DisposedError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import { found, type Holders, type MapInfo, type Read, unreadable } from "../state.ts";
import { MAP_INFO } from "../uapi/bpf.ts";
import { cutAtNul } from "../uapi/layout.ts";
import { fdInfoNumber } from "./fdinfo.ts";
import { forEachObject, MAPS, objectInfo, openId, openIdOrThrow, pinned } from "./objects.ts";
import { offloadDevice } from "./offload.ts";
import { realSys, type Sys } from "./sys.ts";

// Re-exported because libc is already open here.
export { write } from "../ffi.ts";

export interface LiveMapsOptions {
  /**
   * Selects the maps to hold open, so that they stay readable until this is disposed. Default: all. The others are listed and
   * closed at once.
   */
  readonly keep?: (map: MapInfo) => boolean;
  /** System call interface; tests pass a fake kernel. */
  readonly sys?: Sys;
}

/** A map with an open descriptor, which keeps it alive. */
interface HeldMap {
  readonly info: MapInfo;
  readonly fd: Fd;
}

/** The kernel's maps and the descriptors of those that are held. The first system call happens at the first query. */
export class LiveMaps implements Disposable, PinAccessor {
  readonly warnings: string[] = [];
  readonly #sys: Sys;
  readonly #keep: (map: MapInfo) => boolean;
  readonly #held = new Map<number, HeldMap>();
  /** Attributes of maps that were read by id. */
  readonly #found = new Map<number, MapInfo>();
  #holders: Read<Holders> | undefined;
  #listed: readonly MapInfo[] | undefined;
  #disposed = false;

  constructor({ sys = realSys, keep = () => true }: LiveMapsOptions) {
    this.#sys = sys;
    this.#keep = keep;
  }

  /** Returns every map by ascending id. Throws `SyscallError` if the ids cannot be walked. Read once and cached. */
  maps(): readonly MapInfo[] {
    this.#alive();
    this.#listed ??= this.#list();
    return this.#listed;
  }

  pinnedPaths(kind: PinnedKind): ReadonlyMap<number, readonly Uint8Array[]> {
    const { pinnedPaths } = require("./bpffs.ts") as typeof import("./bpffs.ts");
    return pinnedPaths(kind, this.#sys, (sentence) => {
      if (!this.warnings.includes(sentence)) this.warnings.push(sentence);
    });
  }

  /** Returns one map by id and holds it open, without walking the others. Throws `SyscallError`. */
  map(id: number): MapInfo {
    this.#alive();
    return this.#held.get(id)?.info ?? this.adopt(openIdOrThrow(this.#sys, MAPS, id), `map ${id}`);
  }

  /**
   * Returns one map by id, from the list or opened alone; it is held if `keep` selects it. Returns undefined if there is none or
   * it may not be opened.
   */
  find(id: number): MapInfo | undefined {
    this.#alive();
    if (this.#listed !== undefined) return this.#listed.find((map) => map.id === id);
    const known = this.#held.get(id)?.info ?? this.#found.get(id);
    if (known !== undefined) return known;
    const fd = openId(this.#sys, MAPS, id);
    if (typeof fd === "number") return undefined;
    const info = readMapInfo(this.#sys, fd, `map ${id}`);
    this.#found.set(id, info);
    if (this.#keep(info)) this.#held.set(id, { info, fd });
    else fd[Symbol.dispose]();
    return info;
  }

  /** Takes over the descriptor of a map (for example of a pinned path). Throws `SyscallError`. */
  adopt(fd: Fd, object: string): MapInfo {
    this.#alive();
    try {
      const info = readMapInfo(this.#sys, fd, object);
      if (this.#held.has(info.id)) fd[Symbol.dispose]();
      else this.#held.set(info.id, { info, fd });
      return info;
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  /** Returns the processes that hold BPF objects open. A warning counts the processes that this user may not see. */
  holders(): Read<Holders> {
    if (this.#holders === undefined) {
      const { listHolders } = require("./holders.ts") as typeof import("./holders.ts");
      const listed = listHolders(this.#sys);
      if (listed === undefined) {
        const why = "/proc is not mounted: the processes that hold objects are not known";
        this.warnings.push(`${why}, nor the memory of maps and whether they are frozen`);
        this.#holders = unreadable("unsupported", why);
        return this.#holders;
      }
      const { holders, hidden } = listed;
      if (hidden > 0)
        this.warnings.push(
          `the list of holders is not complete: ${hidden} processes belong to other users (CAP_SYS_PTRACE shows them)`,
        );
      this.#holders = found(hidden > 0 ? { ...holders, hidden } : holders);
    }
    return this.#holders;
  }

  /** Returns the descriptor of a held map. */
  heldFd(id: number): Fd | undefined {
    this.#alive();
    return this.#held.get(id)?.fd;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const { fd } of this.#held.values()) fd[Symbol.dispose]();
    this.#held.clear();
  }

  #list(): MapInfo[] {
    const infos: MapInfo[] = [];
    const warn = (sentence: string): void => void this.warnings.push(sentence);
    forEachObject(this.#sys, MAPS, warn, (id, fd) => {
      const info = readMapInfo(this.#sys, fd, `map ${id}`);
      infos.push(info);
      if (this.#keep(info) && !this.#held.has(info.id)) this.#held.set(info.id, { info, fd });
      else fd[Symbol.dispose]();
    });
    return infos;
  }

  #alive(): void {
    if (this.#disposed) throw new DisposedError("live BPF state");
  }
}

const scratch = pinned(MAP_INFO.size);

/** Reads `struct bpf_map_info` of a descriptor and the facts that only fdinfo has (memlock, frozen, owner). */
export function readMapInfo(sys: Sys, fd: Fd, object: string): MapInfo {
  scratch.fill(0);
  const view = objectInfo(sys, fd, MAP_INFO, object, scratch);
  const fdInfo = sys.readFdInfo(fd.number);
  const frozen = fdInfoNumber(fdInfo, "frozen");
  const ownerJited = fdInfoNumber(fdInfo, "owner_jited");
  // Fields are read by literal names: this code runs for thousands of maps.
  const { fields } = MAP_INFO;
  const { offset, size } = fields.name;
  return {
    id: view.getUint32(fields.id.offset, true),
    type: view.getUint32(fields.type.offset, true),
    keySize: view.getUint32(fields.key_size.offset, true),
    valueSize: view.getUint32(fields.value_size.offset, true),
    maxEntries: view.getUint32(fields.max_entries.offset, true),
    flags: view.getUint32(fields.map_flags.offset, true),
    name: cutAtNul(scratch.slice(offset, offset + size)),
    device: offloadDevice(sys, view, fields),
    btfId: view.getUint32(fields.btf_id.offset, true),
    btfKeyTypeId: view.getUint32(fields.btf_key_type_id.offset, true),
    btfValueTypeId: view.getUint32(fields.btf_value_type_id.offset, true),
    btfVmlinuxValueTypeId: view.getUint32(fields.btf_vmlinux_value_type_id.offset, true),
    btfVmlinuxId: view.getUint32(fields.btf_vmlinux_id.offset, true),
    mapExtra: view.getBigUint64(fields.map_extra.offset, true),
    frozen: frozen === undefined ? undefined : frozen === 1,
    memlockBytes: fdInfoNumber(fdInfo, "memlock"),
    ownerProgType: fdInfoNumber(fdInfo, "owner_prog_type"),
    ownerJited: ownerJited === undefined ? undefined : ownerJited === 1,
    location: undefined,
  };
}
