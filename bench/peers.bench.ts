/**
 * Whole commands compared with drgn and crash, which need the kernel's debug info. `KTSTR_PEERS` is the path of the folder that
 * bench/peers.sh created. drgn does not open memory without a note with VMCOREINFO, so it reads ktstr's capture of the same
 * machine. crash reads QEMU's core. All three also read a compressed kdump file (makedumpfile -c) of one machine.
 */
import { existsSync, linkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openKernel } from "../src/guest/kernel/kernel.ts";
import { makedumpfile, writeCore } from "../test/lab/makedumpfile.ts";
import type { Case, Side } from "./case.ts";
import { frozenCore, frozenMemory } from "./commands.bench.ts";
import { KTSTR, output } from "./harness.ts";

const peers = process.env["KTSTR_PEERS"] ?? "";

/** A script for drgn that prints attributes of all maps and the ids of all programs as JSON. */
const LIST = `import sys, json, drgn
from drgn.helpers.linux.bpf import bpf_map_for_each, bpf_prog_for_each
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])
maps = [[int(m.id), int(m.map_type), int(m.key_size), int(m.value_size), int(m.max_entries), m.name.string_().decode("latin-1")]
        for m in bpf_map_for_each(prog)]
print(json.dumps([maps, [int(p.aux.id) for p in bpf_prog_for_each(prog)]]))
`;

function missing(): string {
  if (!existsSync(join(peers, "debug/vmlinux")) || peers === "")
    return "KTSTR_PEERS is not set to a folder that bench/peers.sh created";
  return process.getuid?.() === 0 ? "" : "it needs root";
}

const command = (name: string, words: readonly string[]): Extract<Side, { kind: "command" }> => ({
  kind: "command",
  name,
  command: words,
});

/** Returns the path of a file in the chroot. Removes an old file; disposal removes the new one. */
function inPeers(name: string): { readonly path: string } & Disposable {
  const path = join(peers, name);
  rmSync(path, { force: true });
  return { path, [Symbol.dispose]: () => rmSync(path, { force: true }) };
}

interface Listed {
  readonly id: number;
  readonly bytes_key: number;
  readonly bytes_value: number;
  readonly max_entries: number;
  readonly name?: string;
}

/** Throws if drgn lists other maps or programs than ktstr. */
function compareLists(drgn: readonly string[], memory: string): void {
  const [maps, progs] = JSON.parse(output(...drgn)) as [unknown[][], number[]];
  const ask = (what: string): Listed[] =>
    JSON.parse(output(...KTSTR, "-j", what, "show", "--memory", memory)) as Listed[];
  const ours = ask("map").map((map) => [
    map.id,
    map.bytes_key,
    map.bytes_value,
    map.max_entries,
    map.name ?? "",
  ]);
  const theirs = maps.map(([id, , ...rest]) => [id, ...rest]);
  const ids = ask("prog").map(({ id }) => id);
  if (JSON.stringify(ours) !== JSON.stringify(theirs)) throw new Error(`drgn lists other maps of ${memory}`);
  if (JSON.stringify(ids) !== JSON.stringify(progs))
    throw new Error(`drgn lists other programs of ${memory}`);
}

function withDrgn(image: string): Case {
  return {
    name: `peer: inspect --memory ${image}, to drgn's list of maps`,
    target: 0.25,
    missing: async () =>
      missing() || ((await frozenMemory(image)) === undefined ? `no frozen ${image} is kept` : ""),
    prepare: async () => {
      const memory = (await frozenMemory(image))!;
      const core = inPeers("bench.vmcore");
      const script = inPeers("list.py");
      writeFileSync(script.path, LIST);
      output(...KTSTR, "capture", "--memory", memory, "-o", core.path);
      const drgn = ["chroot", peers, "/usr/bin/python3", "/list.py", "/bench.vmcore", "/debug/vmlinux"];
      compareLists(drgn, memory);
      return {
        subject: command("ktstr", [...KTSTR, "inspect", "--memory", memory]),
        reference: command("drgn", drgn),
        [Symbol.dispose]: () => {
          core[Symbol.dispose]();
          script[Symbol.dispose]();
        },
      };
    },
  };
}

function withCrash(image: string): Case {
  return {
    name: `peer: inspect --memory ${image}, to crash's bpf`,
    missing: async () =>
      missing() || ((await frozenCore(image)) === undefined ? `no core of a frozen ${image} is kept` : ""),
    prepare: async () => {
      const core = (await frozenCore(image))!;
      const linked = inPeers("bench.core");
      const script = inPeers("bench.commands");
      linkSync(core, linked.path);
      writeFileSync(script.path, "bpf\nquit\n");
      const crash = ["/usr/bin/crash", "-s", "-i", "/bench.commands", "/debug/vmlinux", "/bench.core"];
      return {
        subject: command("ktstr", [...KTSTR, "inspect", "--memory", core]),
        reference: command("crash", ["chroot", peers, ...crash]),
        [Symbol.dispose]: () => {
          linked[Symbol.dispose]();
          script[Symbol.dispose]();
        },
      };
    },
  };
}

/** A row of the lab whose memory is one piece, as `writeCore` requires. */
const KDUMP_OF = "sid-5level";

/**
 * Writes an ELF core of the machine and a kdump file of the core. `-d 0` keeps all pages, because makedumpfile does not know the
 * structs of all kernels.
 */
async function writeKdump(core: string, kdump: string): Promise<void> {
  const memory = (await frozenMemory(KDUMP_OF))!;
  using kernel = openKernel({ memory: [{ path: memory }] });
  await writeCore(memory, kernel.found.info.text, core);
  await makedumpfile("-c", "-d", "0", core, kdump);
}

const needKdump = async (): Promise<string> =>
  (await frozenMemory(KDUMP_OF)) === undefined ? `no frozen ${KDUMP_OF} is kept` : "";

const MAP_SHOW = [...KTSTR, "map", "show", "--memory"];

const kdumpToCore: Case = {
  name: `peer: map show of a kdump file of ${KDUMP_OF}, to its ELF core`,
  target: 2,
  missing: needKdump,
  prepare: async (folder) => {
    const [core, kdump] = [join(folder, "core"), join(folder, "kdump")];
    await writeKdump(core, kdump);
    return {
      subject: { ...command("ktstr", [...MAP_SHOW, kdump]), into: join(folder, "kdump.txt") },
      reference: { ...command("ktstr", [...MAP_SHOW, core]), into: join(folder, "core.txt") },
      sameOutput: true,
      [Symbol.dispose]: () => {
        for (const path of [core, kdump]) rmSync(path);
      },
    };
  },
};

/** `words`: a command in the chroot. It reads `script` in /bench.script. */
function kdumpWith(name: string, script: string, words: readonly string[]): Case {
  return {
    name: `peer: map show of a kdump file of ${KDUMP_OF}, to ${name}`,
    missing: async () => missing() || (await needKdump()),
    prepare: async (folder) => {
      const core = join(folder, "core");
      const kdump = inPeers("bench.kdump");
      const commands = inPeers("bench.script");
      writeFileSync(commands.path, script);
      await writeKdump(core, kdump.path);
      rmSync(core);
      return {
        subject: command("ktstr", [...MAP_SHOW, kdump.path]),
        reference: command(name, ["chroot", peers, ...words]),
        [Symbol.dispose]: () => {
          kdump[Symbol.dispose]();
          commands[Symbol.dispose]();
        },
      };
    },
  };
}

export const jobs = {};

export const cases: readonly Case[] = [
  withDrgn("sid-5level"),
  withDrgn("sid-4level"),
  withCrash("sid-4level"),
  kdumpToCore,
  kdumpWith("drgn", LIST, ["/usr/bin/python3", "/bench.script", "/bench.kdump", "/debug/vmlinux"]),
  kdumpWith("crash", "bpf\nquit\n", [
    ...["/usr/bin/crash", "-s", "-i", "/bench.script", "/debug/vmlinux", "/bench.kdump"],
  ]),
];
