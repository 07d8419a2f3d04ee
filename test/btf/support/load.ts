/** Loads types.bpf.c into the running kernel for the duration of a test file. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Btf } from "../../../src/btf/btf.ts";
import { openLive } from "../../../src/live/live.ts";
import { run } from "./live.ts";

/** An element of a map: the bytes that `bpftool -j map dump` printed. */
interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** Values by CPU of a per-CPU map; else empty. */
  readonly values: readonly Uint8Array[];
}

interface LoadedMap {
  readonly btfId: number;
  readonly keyTypeId: number;
  readonly valueTypeId: number;
  readonly btf: Btf;
  /** Output of `bpftool -j map dump` without its line end. */
  readonly dump: string;
  readonly entries: readonly Entry[];
}

interface DumpedEntry {
  readonly key: readonly string[];
  readonly value?: readonly string[];
  readonly values?: readonly { readonly value: readonly string[] }[];
}

/** Compiles types.bpf.c into a folder and returns the path of the object file. */
export function compileTypes(directory: string): string {
  const object = join(directory, "types.o");
  const source = join(import.meta.dir, "types.bpf.c");
  run("clang-19", "-O2", "-g", ...["-target", "bpf", "-mcpu=v3"], "-c", source, "-o", object);
  return object;
}

export class LoadedObject implements Disposable {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static load(): LoadedObject {
    const directory = mkdtempSync(join(tmpdir(), "ktstr-types-"));
    const loaded = new LoadedObject(directory);
    try {
      const object = compileTypes(directory);
      mkdirSync(join(directory, "bpf"));
      run("mount", "-t", "bpf", "none", join(directory, "bpf"));
      run("bpftool", "prog", "loadall", object, `${directory}/bpf/progs`, "pinmaps", `${directory}/bpf/maps`);
    } catch (error) {
      loaded[Symbol.dispose]();
      throw error;
    }
    return loaded;
  }

  get objectFile(): string {
    return join(this.#directory, "types.o");
  }

  /** Returns a map by the name of its pin: the whole name of a `.maps` variable; `.data` and so on for a section. */
  map(pin: string): LoadedMap {
    const pinned = ["pinned", this.#pin(pin)];
    const shown = JSON.parse(run("bpftool", "-j", "map", "show", ...pinned)) as { id: number };
    using live = openLive({ keep: () => false });
    const { btfId, btfKeyTypeId, btfValueTypeId } = live.map(shown.id);
    const btf = live.btf(btfId);
    if (!btf.ok) throw new Error(btf.why.detail);
    const dump = run("bpftool", "-j", "map", "dump", ...pinned).trimEnd();
    return {
      btfId,
      keyTypeId: btfKeyTypeId,
      valueTypeId: btfValueTypeId,
      btf: btf.value,
      dump,
      entries: entriesOf(dump),
    };
  }

  /** Returns the ids of the object's maps by their names in the kernel. */
  ids(): Map<string, number> {
    const { btfId } = this.map("array_of_all");
    using live = openLive();
    const own = live.maps().filter((info) => info.btfId === btfId);
    return new Map(own.map(({ id, name }) => [Buffer.from(name).toString(), id]));
  }

  #pin(pin: string): string {
    return `${this.#directory}/bpf/maps/${pin}`;
  }

  update(pin: string, key: Uint8Array, value: Uint8Array): void {
    const hex = (bytes: Uint8Array): string[] => ["hex", ...[...bytes].map((byte) => byte.toString(16))];
    run("bpftool", "map", "update", "pinned", this.#pin(pin), "key", ...hex(key), "value", ...hex(value));
  }

  [Symbol.dispose](): void {
    Bun.spawnSync(["umount", join(this.#directory, "bpf")]);
    rmSync(this.#directory, { recursive: true });
  }
}

/** Parses only the bytes of a dump's text, because bpftool's formatted values may not be valid JSON. */
function entriesOf(dump: string): Entry[] {
  const bytes = (hex: readonly string[] = []): Uint8Array => Uint8Array.from(hex, Number);
  const parts = dump.matchAll(/"key":(\[[^\]]*\]),"(value|values)":(\[[^\]{]*\]|\[\{.*?\}\]),"formatted"/g);
  return Array.from(parts, ([, key, name, value]) => {
    const entry = JSON.parse(`{"key":${key},"${name}":${value}}`) as DumpedEntry;
    return {
      key: bytes(entry.key),
      value: bytes(entry.value),
      values: (entry.values ?? []).map((one) => bytes(one.value)),
    };
  });
}
