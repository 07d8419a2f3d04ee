/**
 * A model of a kernel, for answers that a real one does not give on demand. It follows the real kernel's rules for memory:
 * every write is checked against the buffer that it was given.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { Fd, type Mapping, type MmapOptions } from "../../src/ffi.ts";
import type { Attr } from "../../src/live/attr.ts";
import type { OpenDirectory, Sys } from "../../src/live/sys.ts";
import { type BpfCommand, BTF_INFO, LINK_INFO, MAP_INFO, PROG_INFO } from "../../src/uapi/bpf.ts";
import { ENOENT } from "../../src/uapi/errno.ts";
import type { Layout } from "../../src/uapi/layout.ts";
import { messagesOf, type RouteMessage } from "../../src/uapi/netlink.ts";
import { FakeMap, type FakeMapOptions } from "./fake-map.ts";

/** An object of an id space other than the maps': fields of its info struct, by the layout's names. */
export interface FakeObject {
  readonly id: number;
  readonly info: Readonly<Record<string, number | Uint8Array>>;
  /** Contents of the memory to which a pointer field of the info points, by the field's name. */
  readonly pointees?: Readonly<Record<string, Uint8Array>>;
  /** A u32 that no layout has: the union members of a link. */
  readonly extra?: { readonly offset: number; readonly value: number };
}

type Kind = "MAP" | "PROG" | "LINK" | "BTF";

interface Failure {
  readonly command: BpfCommand;
  readonly errno: number;
  readonly when: (attr: Attr) => boolean;
  left: number;
}

export class FakeKernel implements Sys {
  readonly maps: Map<number, FakeMap> = new Map();
  readonly progs: Map<number, FakeObject> = new Map();
  readonly links: Map<number, FakeObject> = new Map();
  readonly btfs: Map<number, FakeObject> = new Map();
  /** Files of /proc and /sys. */
  readonly files: Map<string, string | Uint8Array> = new Map<string, string | Uint8Array>([
    ["/sys/devices/system/cpu/possible", "0-3\n"],
    ["/sys/devices/system/cpu/online", "0-1\n"],
  ]);
  /** Directories of /proc and of cgroup2, with the names in them. */
  readonly directories: Map<string, readonly string[]> = new Map();
  /** All commands, in order. */
  readonly calls: BpfCommand[] = [];
  /** Writes past the end of a buffer that a real kernel would have performed. */
  readonly overflows: string[] = [];
  /** Number of CPUs that a per-CPU look-up writes: the kernel's own number, not the caller's. */
  possibleCpus = 4;
  /** Runs before each command, so that a test can change the kernel between two of the reader's commands. */
  before: (command: BpfCommand, attr: Attr) => void = () => {};
  /** Replaces the model's answer to a command. Returns undefined for the model's answer. */
  instead: (command: BpfCommand, attr: Attr) => number | undefined = () => undefined;
  /** Runs after each command that did not fail. */
  after: (command: BpfCommand, attr: Attr) => void = () => {};

  readonly #fds = new Map<number, { kind: Kind; object: FakeMap | FakeObject }>();
  #nextFd = 100_000;
  #failures: Failure[] = [];

  addMap(options: FakeMapOptions): FakeMap {
    const map = new FakeMap(options);
    this.maps.set(map.id, map);
    return map;
  }

  /** Makes the next `times` calls of a command (selected by `when`) fail. */
  fail(
    command: BpfCommand,
    errno: number,
    { times = Number.POSITIVE_INFINITY, when = () => true }: { times?: number; when?: Failure["when"] } = {},
  ): void {
    this.#failures.push({ command, errno, when, left: times });
  }

  /** Number of open descriptors. */
  get openCount(): number {
    return this.#fds.size;
  }

  countOf(command: BpfCommand): number {
    return this.calls.filter((call) => call === command).length;
  }

  bpf(command: BpfCommand, attr: Attr): number {
    this.calls.push(command);
    this.before(command, attr);
    const failure = this.#failures.find(
      (candidate) => candidate.command === command && candidate.left > 0 && candidate.when(attr),
    );
    if (failure !== undefined) {
      failure.left--;
      return -failure.errno;
    }
    const result = this.instead(command, attr) ?? this.#answer(command, attr);
    if (result >= 0) this.after(command, attr);
    return result;
  }

  #answer(command: BpfCommand, attr: Attr): number {
    const byId = /^BPF_(MAP|PROG|LINK|BTF)_GET_(NEXT_ID|FD_BY_ID)$/.exec(command);
    if (byId !== null) {
      const kind = byId[1] as Kind;
      return byId[2] === "NEXT_ID" ? this.#nextId(kind, attr) : this.#open(kind, attr.get("start_id"));
    }
    switch (command) {
      case "BPF_OBJ_GET_INFO_BY_FD":
        return this.#info(attr);
      case "BPF_MAP_LOOKUP_ELEM":
        return this.#map(attr).lookup(attr, this);
      case "BPF_MAP_GET_NEXT_KEY":
        return this.#map(attr).nextKey(attr, this);
      case "BPF_MAP_LOOKUP_BATCH":
        return this.#map(attr).batch(attr, this);
      default:
        throw new Error(`the fake kernel has no ${command}`);
    }
  }

  #objects(kind: Kind): Map<number, FakeMap | FakeObject> {
    return { MAP: this.maps, PROG: this.progs, LINK: this.links, BTF: this.btfs }[kind];
  }

  #nextId(kind: Kind, attr: Attr): number {
    const start = attr.get("start_id");
    const next = [...this.#objects(kind).keys()].filter((id) => id > start).sort((a, b) => a - b)[0];
    if (next === undefined) return -ENOENT;
    attr.set("next_id", next);
    return 0;
  }

  #open(kind: Kind, id: number): number {
    const object = this.#objects(kind).get(id);
    if (object === undefined) return -ENOENT;
    const fd = this.#nextFd++;
    this.#fds.set(fd, { kind, object });
    return fd;
  }

  #map(attr: Attr): FakeMap {
    const open = this.#fds.get(attr.get("map_fd"));
    if (!(open?.object instanceof FakeMap)) throw new Error(`${attr.get("map_fd")}: no open map`);
    return open.object;
  }

  #info(attr: Attr): number {
    const open = this.#fds.get(attr.get("bpf_fd"));
    if (open === undefined) throw new Error(`${attr.get("bpf_fd")}: not open`);
    const into = attr.pointee("info");
    if (into === undefined) throw new Error("info points nowhere");
    const { object } = open;
    if (attr.get("info_len") > into.length) this.overflows.push(`info of ${open.kind} ${object.id}`);
    const layout = { MAP: MAP_INFO, PROG: PROG_INFO, LINK: LINK_INFO, BTF: BTF_INFO }[open.kind];
    writeInfo(into, layout, object);
    return 0;
  }

  /** A property, because `Fd` keeps it as a function. */
  readonly close = (fd: number): void => {
    if (!this.#fds.delete(fd)) throw new Error(`close(${fd}): not open`);
  };

  readFile(path: string): Uint8Array | undefined {
    const file = this.files.get(path);
    return typeof file === "string" ? new TextEncoder().encode(file) : file;
  }

  *pieces(path: string): Generator<Uint8Array> {
    const file = this.readFile(path);
    if (file !== undefined) yield file;
  }

  readFdInfo(fd: number): string {
    const object = this.#fds.get(fd)?.object;
    return object instanceof FakeMap ? object.fdInfo : "";
  }

  readLink(_path: string): string | undefined {
    return undefined;
  }

  readDirectory(path: string): readonly string[] {
    return this.directories.get(path) ?? [];
  }

  mmap(_options: MmapOptions): Mapping | number {
    return -ENOENT;
  }

  pageSize(): number {
    return 4096;
  }

  /** A pidfd is the descriptor 200,000 + pid, unless `pidErrno` gives an error. */
  openPid(pid: number, thread: boolean): Fd | number {
    const errno = this.pidErrno(pid, thread);
    return errno === 0 ? new Fd(200_000 + pid, `pid ${pid}`, () => {}) : -errno;
  }

  pidErrno: (pid: number, thread: boolean) => number = () => 0;

  openDirectory(path: Uint8Array): OpenDirectory | number {
    const name = Buffer.from(path).toString();
    const children = this.directories.get(name);
    if (children === undefined) return -ENOENT;
    const inode = [...this.directories.keys()].indexOf(name) + 1;
    const fd = new Fd(300_000 + inode, name, () => {});
    return { fd, inode: BigInt(inode), children: children.map((child) => Buffer.from(child)) };
  }

  /** The caller's network namespace, and the devices in it. */
  namespace: { readonly dev: bigint; readonly ino: bigint } | undefined = undefined;
  readonly devices: Map<number, Uint8Array> = new Map();

  netns(): { readonly dev: bigint; readonly ino: bigint } | undefined {
    return this.namespace;
  }

  deviceName(index: number): Uint8Array | undefined {
    return this.devices.get(index);
  }

  /** Records of a device by its path: one per read; or `-errno`. */
  readonly messages: Map<string, readonly Uint8Array[] | number> = new Map();

  readMessages(path: string): readonly Uint8Array[] | number {
    return this.messages.get(path) ?? -ENOENT;
  }

  openFile(): number {
    return -ENOENT;
  }

  /** Answers to dump requests of rtnetlink, as datagrams, by the request's bytes in hexadecimal. */
  readonly routes: Map<string, readonly Uint8Array[]> = new Map();

  routeDump(request: Uint8Array<ArrayBuffer>): readonly RouteMessage[] | number {
    const datagrams = this.routes.get(Buffer.from(request).toString("hex"));
    if (datagrams === undefined) return -ENOENT;
    const told = datagrams.map((datagram) => messagesOf(datagram, request));
    const refused = told.find(({ end }) => end !== undefined && end < 0);
    return refused?.end ?? told.flatMap(({ messages }) => messages);
  }

  clockNs(): bigint {
    return 0n;
  }
}

/** Fills an info struct, and writes to the memory at its pointers as the kernel would. */
function writeInfo(into: Uint8Array, layout: Layout, object: FakeMap | FakeObject): void {
  const view = new DataView(into.buffer, into.byteOffset, into.length);
  const pointees = object instanceof FakeMap ? {} : (object.pointees ?? {});
  for (const [name, bytes] of Object.entries(pointees)) {
    const address = view.getBigUint64(layout.fields[name]?.offset ?? 0, true);
    if (address !== 0n) writeMemory(address, bytes);
  }
  const info: FakeObject["info"] = { id: object.id, ...object.info };
  for (const [name, value] of Object.entries(info)) {
    const field = layout.fields[name];
    if (field === undefined) throw new Error(`${layout.name} has no ${name}`);
    if (typeof value !== "number") {
      into.fill(0, field.offset, field.offset + field.size);
      into.set(value.subarray(0, field.size), field.offset);
    } else if (field.size === 8) view.setBigUint64(field.offset, BigInt(value), true);
    else view.setUint32(field.offset, value, true);
  }
  if (!(object instanceof FakeMap) && object.extra !== undefined) {
    view.setUint32(object.extra.offset, object.extra.value, true);
  }
}

/** copy_to_user, to an address. */
function writeMemory(address: bigint, bytes: Uint8Array): void {
  const memory = openSync("/proc/self/mem", "r+");
  try {
    writeSync(memory, bytes, 0, bytes.length, Number(address));
  } finally {
    closeSync(memory);
  }
}
