/** Frozen machines of the lab, compared with their own answers: /proc/kallsyms, /proc/iomem, bpftool, sysfs. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { struct, u32 } from "../../src/btf/struct.ts";
import { type GuestState, openGuest } from "../../src/guest/guest.ts";
import { type DataFile, ImageFile } from "../../src/guest/image/file.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { idrEntries } from "../../src/guest/kernel/idr.ts";
import { Kallsyms } from "../../src/guest/kernel/kallsyms.ts";
import { KallsymsShape, type KallsymsTables, searchDigits } from "../../src/guest/kernel/kallsyms-shape.ts";
import { type OpenedKernel, openKernel } from "../../src/guest/kernel/kernel.ts";
import { readRamRanges } from "../../src/guest/kernel/layout.ts";
import { perCpuAddress } from "../../src/guest/kernel/percpu.ts";
import { requireSymbol } from "../../src/guest/kernel/symbols.ts";
import { WalkLog } from "../../src/guest/kernel/walklog.ts";
import { hex } from "../../src/guest/memory/pointer.ts";
import { buildInspection } from "../../src/report/inspection.ts";
import { inspectionJson } from "../../src/report/inspection-json.ts";
import { stringify } from "../../src/report/json.ts";
import { labDir } from "../lab/cache.ts";
import { eachMachine, type LabImage, labImages, withoutBpftools } from "./images.ts";

const images = await labImages();

/** A memory file in which no search finds the text of VMCOREINFO. */
class WithoutText implements DataFile {
  readonly isMapped = true;
  readonly path: string;
  readonly sizeBytes: number;
  readonly #file: ImageFile;

  constructor(file: ImageFile) {
    this.#file = file;
    this.path = file.path;
    this.sizeBytes = file.sizeBytes;
  }

  check(): void {
    this.#file.check();
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#file.read(offset, length);
  }

  window(offset: number, length: number): Uint8Array {
    return this.#file.window(offset, length);
  }

  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void {
    this.#file.search(from, to, (view, offset) => {
      const copy = Buffer.from(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
      for (let at = copy.indexOf("OSRELEASE="); at >= 0; at = copy.indexOf("OSRELEASE=", at))
        copy.fill(0, at, at + 10);
      return visit(new DataView(copy.buffer, copy.byteOffset, copy.length), offset);
    });
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Timeout for a machine that reads a dump of some GiB from a disk. */
const DISK_MS = 120_000;
const RQ = struct("rq", { cpu: u32 });

const open = (image: LabImage): OpenedKernel => openKernel({ memory: [{ path: image.memory }] });

const idsOf = (kernel: OpenedKernel, name: string): { ids: number[]; log: WalkLog } => {
  const log = new WalkLog();
  const at = requireSymbol(kernel.symbols, name);
  return { ids: [...idrEntries(kernel.memory, kernel.btf, at, name, log)].map(({ id }) => id), log };
};

const idsOfBpftool = (image: LabImage, file: string): number[] | undefined => {
  const text = image.answer(file);
  return text === undefined
    ? undefined
    : withoutBpftools(JSON.parse(text) as { id: number }[]).map(({ id }) => id);
};

eachMachine(images, (image) => {
  test("from the file alone, the layout, the release and the machine are the guest's", () => {
    using kernel = open(image);
    expect(kernel.info.release).toBe(image.answer("release")!.trim());
    expect(kernel.info.machine).toBe(image.answer("machine")!.trim());
    expect(image.answer("version")).toContain(kernel.info.version);
    const bootSeconds = /^btime ([0-9]+)$/m.exec(image.answer("stat")!)![1];
    expect(String(kernel.info.bootTimeUnixNs! / 1_000_000_000n)).toBe(bootSeconds!);
    // The guest printed its time just before the freeze, so the clock is at that time or a little later.
    const last = Number(image.answer("uptime-last")!.split(" ")[0]);
    const uptime = Number(kernel.info.uptimeNs!) / 1e9;
    expect(uptime).toBeGreaterThan(last - 0.05);
    expect(uptime).toBeLessThan(last + 300);
    const layout = image.pieces.map(({ gpa, fileOffset, size }) => ({
      physical: gpa,
      fileOffset,
      length: size,
    }));
    expect(kernel.memory.physical.end).toBe(
      Math.max(...layout.map((piece) => piece.physical + piece.length)),
    );
    expect(kernel.memory.physical.windows[0]!.physical).toBe(layout[0]!.physical);
    expect(kernel.warnings).toHaveLength(1);
    expect(kernel.warnings[0]).toStartWith("The file does not contain the addresses of its memory");
  });

  test("the search by shape finds the tables of kallsyms at the addresses in VMCOREINFO", () => {
    using kernel = open(image);
    const { info, machine } = kernel.found;
    // For a kernel before 6.0 its symbols are tested, which come from the tables that are found here.
    if (info.symbol("kallsyms_names") === undefined) expect(info.release).toMatch(/^5\./);
    using files = new MemoryImage([{ path: image.memory }]);
    files.arrange(kernel.found.layout);
    const shape = new KallsymsShape(files.physicalMemory());
    const found: KallsymsTables[] = [];
    searchDigits(files, (at) => {
      const tables = shape.tables(at);
      if (tables !== undefined) found.push(tables);
      return false;
    });
    expect(found).toHaveLength(1);
    const { countAt, names, tokens, tokenIndex, offsets, base } = found[0]!;
    const told = ["num_syms", "names", "token_table", "token_index", "offsets", "relative_base"].map(
      (name) => {
        const at = info.symbol(`kallsyms_${name}`);
        return at === undefined ? undefined : Number(at - machine.imageOffset);
      },
    );
    if (told[0] !== undefined) expect([countAt, names, tokens, tokenIndex, offsets, base]).toEqual(told);
    expect(found[0]!.count).toBe(kernel.symbols.count);
  });

  test("without VMCOREINFO its lines are rebuilt, and every answer is the same", () => {
    using kernel = open(image);
    using told = openGuest({ memory: image.memory });
    const ram = new WithoutText(new ImageFile(image.memory));
    using found = openGuest({ memory: [{ path: image.memory, ram }] });
    expect(found.explain()[1]!.text).toBe("not in this memory; derived from the kernel's symbol table");
    using again = openKernel({
      memory: [{ path: image.memory, ram: new WithoutText(new ImageFile(image.memory)) }],
    });
    // The rebuilt lines must be equal to the kernel's own.
    const own = new Map(
      kernel.found.info.text.split("\n").map((line) => line.split("=") as [string, string]),
    );
    const number = (value: string): bigint => BigInt.asUintN(64, BigInt(value));
    for (const line of again.found.info.text.trimEnd().split("\n")) {
      const [key, value] = line.split("=") as [string, string];
      const theirs = own.get(key);
      if (theirs === undefined) continue;
      if (key.startsWith("NUMBER")) expect([key, number(value)]).toEqual([key, number(theirs)]);
      else expect(line).toBe(`${key}=${theirs}`);
    }
    for (const key of ["OSRELEASE", "BUILD-ID", "PAGESIZE", "SYMBOL(_stext)", "SYMBOL(init_uts_ns)"])
      expect(again.found.info.text).toContain(`${key}=${own.get(key)}\n`);
    const json = (guest: GuestState): string => stringify(inspectionJson(buildInspection(guest, 4)));
    expect(json(found)).toBe(json(told));
  });

  const gzip = image.answerBytes("kallsyms-full.gz");
  test.skipIf(gzip === undefined)(
    "every symbol has the name, the type letter and the address of /proc/kallsyms",
    () => {
      // Modules have their own tables; symbols of BPF programs are in no table.
      const want = new TextDecoder()
        .decode(gunzipSync(gzip!))
        .split("\n")
        .filter((line) => line !== "" && !line.includes("\t["));
      using kernel = open(image);
      const symbols = kernel.symbols;
      if (!(symbols instanceof Kallsyms)) throw new Error("symbols come from elsewhere");
      expect(symbols.count).toBe(want.length);
      const first = new Map<string, string>();
      for (const line of want) {
        const [address, , name] = line.split(" ");
        if (!first.has(name!)) first.set(name!, `0x${address}`);
      }
      for (const [name, address] of [...first].filter((_entry, place) => place % 20 === 0)) {
        const { hi, lo } = requireSymbol(symbols, name);
        expect(`${name} ${hex(hi, lo)}`).toBe(`${name} ${address}`);
      }
      let index = 0;
      for (const { name, type, address } of symbols.all()) {
        const line = `${hex(address.hi, address.lo).slice(2)} ${type} ${name}`;
        if (line !== want[index]) expect(line).toBe(want[index]!);
        index++;
      }
      expect(index).toBe(want.length);
    },
  );

  test("a look-up by name finds the first symbol of that name", () => {
    const want = new Map<string, string>();
    for (const line of image.answer("kallsyms")!.split("\n")) {
      const [address, , name] = line.split(" ");
      if (name !== undefined && !want.has(name)) want.set(name, `0x${address}`);
    }
    expect(want.size).toBeGreaterThan(20);
    using kernel = open(image);
    for (const [name, address] of want) {
      const { hi, lo } = requireSymbol(kernel.symbols, name);
      expect(`${name} ${hex(hi, lo)}`).toBe(`${name} ${address}`);
    }
    expect(kernel.symbols.address("no_such_symbol")).toBeUndefined();
  });

  test("the kernel's list of RAM is equal to /proc/iomem", () => {
    using kernel = open(image);
    const want = [...image.answer("iomem")!.matchAll(/^([0-9a-f]+)-([0-9a-f]+) : System RAM$/gm)].map(
      ([, start, end]) => ({ start: Number(`0x${start}`), end: Number(`0x${end}`) + 1 }),
    );
    expect(readRamRanges(kernel.memory, kernel.symbols, kernel.btf)).toEqual(want);
  });

  test("the BTF is equal to /sys/kernel/btf/vmlinux", () => {
    using kernel = open(image);
    const start = requireSymbol(kernel.symbols, "__start_BTF");
    const stop = requireSymbol(kernel.symbols, "__stop_BTF");
    const bytes = kernel.memory.copy(start.hi, start.lo, 0, (stop.lo - start.lo) >>> 0, "BTF");
    const sum = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
    expect(image.answer("btf-vmlinux.sha256")).toContain(sum);
  });

  for (const [name, file] of [
    ["map_idr", "map-show.json"],
    ["prog_idr", "prog-show.json"],
    ["link_idr", "link-show.json"],
    ["btf_idr", "btf-show.json"],
  ] as const) {
    const want = idsOfBpftool(image, file);
    test.skipIf(want === undefined)(`${name} has the ids of bpftool`, () => {
      using kernel = open(image);
      const { ids, log } = idsOf(kernel, name);
      expect(log.details).toEqual([]);
      expect(ids).toEqual(want!);
    });
  }

  test("the types can be used after the memory is closed", () => {
    const kernel = open(image);
    const { btf } = kernel;
    const ids = (): (number | undefined)[] => ["task_struct", "bpf_map"].map((name) => btf.find(name));
    const before = ids();
    kernel[Symbol.dispose]();
    expect(ids()).toEqual(before);
    expect(btf.sizeOf(before[0]!)).toBeGreaterThan(1000);
  });

  test("the CPUs are those of sysfs, and each per-CPU area has the number of its CPU", () => {
    using kernel = open(image);
    const { possible, onlineCount, areas, missing } = kernel.cpus;
    const count = possible.length;
    expect(image.answer("cpu-possible")!.trim()).toBe(count === 1 ? "0" : `0-${count - 1}`);
    // A panic stops all other CPUs, which are then offline (arch/x86/kernel/process.c, stop_this_cpu).
    if (image.name.startsWith("panicked")) expect(onlineCount).toBe(1);
    else expect(image.answer("cpu-online")!.trim()).toBe(onlineCount === 1 ? "0" : `0-${onlineCount - 1}`);
    expect(missing).toEqual([]);
    const runqueues = requireSymbol(kernel.symbols, "runqueues");
    const { cpu } = RQ.resolve(kernel.btf);
    const numbers = areas.map((area) => {
      const { hi, lo } = perCpuAddress(runqueues, area);
      const { offset } = area;
      const at = kernel.memory.locateSum(runqueues.hi, runqueues.lo, offset.hi, offset.lo, cpu, 4);
      expect(kernel.memory.view.getUint32(at, true)).toBe(area.cpu);
      return kernel.memory.u32(hi, lo, cpu, "runqueues.cpu");
    });
    expect(numbers).toEqual([...possible]);
  });

  test.skipIf(image.vmcore === undefined)(
    "the ELF core of the same freeze gives the same answers, without guessing a layout",
    () => {
      using raw = open(image);
      using core = openKernel({ memory: [{ path: image.vmcore! }] });
      expect(core.warnings).toEqual([]);
      expect(core.info).toEqual(raw.info);
      for (const name of ["map_idr", "prog_idr", "link_idr", "btf_idr"])
        expect(idsOf(core, name)).toEqual(idsOf(raw, name));
    },
    DISK_MS,
  );

  const path = join(labDir(), "debug", `vmlinux-${image.answer("release")!.trim()}`);
  test.skipIf(!existsSync(path))(
    "with the vmlinux of the debug package, symbols and types come from it and are the same",
    () => {
      using bare = open(image);
      using kernel = openKernel({ memory: [{ path: image.memory }], vmlinux: path });
      expect(kernel.symbols.source).toBe(path);
      expect(kernel.symbols.count).toBeGreaterThan(bare.symbols.count);
      for (const [, name] of image.answer("kallsyms")!.matchAll(/^[0-9a-f]+ [^aA] ([^ \n]+)$/gm))
        expect([name, kernel.symbols.address(name!)]).toEqual([name, bare.symbols.address(name!)]);
      expect(kernel.btf.typeCount).toBe(bare.btf.typeCount);
      expect(idsOf(kernel, "map_idr").ids).toEqual(idsOf(bare, "map_idr").ids);
    },
  );

  test("a given layout and a given address of VMCOREINFO need no search and no guess", () => {
    const note = Number(image.answer("vmcoreinfo")!.split(" ")[0]);
    using kernel = openKernel({
      memory: [{ path: image.memory }],
      vmcoreinfo: note,
      onProgress: () => {
        throw new Error("it searched");
      },
    });
    expect(kernel.info.release).toBe(image.answer("release")!.trim());
    if (image.pieces.length !== 1) return;
    using told = openKernel({ memory: [{ path: image.memory, physical: image.pieces[0]!.gpa }] });
    expect(told.warnings).toEqual([]);
    expect(told.info).toEqual(kernel.info);
  });

  test("a wrong layout is an error that lists the attempts", () => {
    const physical = image.pieces[0]!.gpa + 0x1000_0000;
    expect(() => openKernel({ memory: [{ path: image.memory, physical }] })).toThrow(
      /VMCOREINFO was found [0-9]+ times, but no copy matches this memory/,
    );
  });
});
