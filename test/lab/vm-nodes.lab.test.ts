/**
 * Machines whose RAM has several pieces: NUMA nodes with memory of their own, and a hole below 4 GiB. QEMU is given the
 * memory of a frozen guest, so that the raw memory file is the oracle.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { labSkipReason } from "./availability.ts";
import { frozenRow } from "./matrix.ts";
import { tool } from "./process.ts";
import { connectQmp } from "./qmp.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 600_000;
const MIB = 2 ** 20;

/** Runs ktstr, whose output must be longer than 100,000 bytes, and returns the output's hash. */
async function hashOfOutput(...words: readonly string[]): Promise<string> {
  const child = Bun.spawn([process.execPath, cli, ...words], { stderr: "ignore" });
  const [out, status] = await Promise.all([child.stdout.bytes(), child.exited]);
  expect(status).toBe(0);
  expect(out.length).toBeGreaterThan(100_000);
  return Bun.SHA256.hash(out, "hex");
}

interface Node {
  readonly id: string;
  readonly kind: "ram" | "memfd" | "file";
  readonly sizeMiB: number;
}

interface How {
  /** The nodes in the order of QEMU's arguments, if it is another one. */
  readonly objects?: readonly Node[];
  /** Give QEMU its memory objects as JSON. */
  readonly isJson?: boolean;
}

describe.skipIf((await labSkipReason()) !== "")(
  "QEMU with the memory of a frozen guest in several nodes",
  () => {
    let folder = "";
    const machines: Bun.Subprocess[] = [];

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), "ktstr-nodes-"));
    });
    afterAll(async () => {
      for (const machine of machines) machine.kill("SIGKILL");
      await Promise.all(machines.map(({ exited }) => exited));
      rmSync(folder, { recursive: true, force: true });
    });

    /** A part of the memory file, with its holes. */
    async function cut(memory: string, fromMiB: number, sizeMiB: number): Promise<string> {
      const path = join(folder, `part-${machines.length}-${fromMiB}`);
      const words = [
        `if=${memory}`,
        `of=${path}`,
        "bs=1M",
        `skip=${fromMiB}`,
        `count=${sizeMiB}`,
        "conv=sparse",
      ];
      const child = Bun.spawn(["dd", ...words], { stderr: "ignore" });
      expect(await child.exited).toBe(0);
      return path;
    }

    /** Starts a QEMU with this memory. It does not run the guest's CPUs. */
    async function start(
      memory: string,
      nodes: readonly Node[],
      { objects = nodes, isJson = false }: How = {},
    ): Promise<{ pid: number; socket: string }> {
      const socket = join(folder, `qmp-${machines.length}`);
      const words: string[] = [];
      const paths = new Map<Node, string>();
      let from = 0;
      for (const node of nodes) {
        if (node.kind === "file") paths.set(node, await cut(memory, from, node.sizeMiB));
        from += node.sizeMiB;
      }
      for (const node of objects) {
        const { id, kind, sizeMiB } = node;
        const path = paths.get(node);
        const object = { "qom-type": `memory-backend-${kind}`, id, size: sizeMiB * MIB };
        const text = `memory-backend-${kind},id=${id},size=${sizeMiB}M${path === undefined ? "" : `,mem-path=${path},share=on`}`;
        words.push("-object", isJson ? JSON.stringify(object) : text);
      }
      for (const [index, { id }] of nodes.entries()) words.push("-numa", `node,nodeid=${index},memdev=${id}`);
      if (paths.size === 0) words.push("-device", `loader,file=${memory},addr=0,force-raw=on`);
      const qemu = [tool("qemu-system-x86_64"), "-S", "-accel", "tcg", "-cpu", "max", "-machine", "q35"];
      const rest = [
        "-m",
        `${from}M`,
        "-display",
        "none",
        "-nodefaults",
        "-qmp",
        `unix:${socket},server=on,wait=off`,
      ];
      const child = Bun.spawn([tool("setpriv"), "--pdeathsig", "KILL", ...qemu, ...words, ...rest], {
        stdin: "ignore",
        stdout: "ignore",
        stderr: "ignore",
      });
      machines.push(child);
      for (let tries = 0; tries < 600; tries++) {
        // It answers once the memory is loaded.
        const qmp = await connectQmp(socket).catch(() => undefined);
        if (qmp !== undefined) {
          qmp[Symbol.dispose]();
          return { pid: child.pid, socket };
        }
        await Bun.sleep(50);
      }
      throw new Error("QEMU does not answer");
    }

    /** Checks that the machine's answers, with and without its socket, are those of the memory file. */
    async function check(memory: string, nodes: readonly Node[], how: How = {}): Promise<void> {
      const raw = await hashOfOutput("-j", "inspect", "--memory", memory);
      const { pid, socket } = await start(memory, nodes, how);
      for (const vm of [`${pid}`, socket])
        expect([vm, await hashOfOutput("-j", "inspect", "--vm", vm)]).toEqual([vm, raw]);
      const machine = machines.pop()!;
      machine.kill("SIGKILL");
      await machine.exited;
      for (const name of readdirSync(folder)) rmSync(join(folder, name));
    }

    const small: readonly (readonly [name: string, nodes: readonly Node[], how: How])[] = [
      [
        "3 anonymous nodes of one size, given in another order",
        ["a", "b", "c"].map((id) => ({ id, kind: "ram", sizeMiB: 256 })),
        { objects: ["c", "a", "b"].map((id) => ({ id, kind: "ram", sizeMiB: 256 })) },
      ],
      [
        "2 nodes of different kinds and sizes, as libvirt gives them",
        [
          { id: "ram-node0", kind: "ram", sizeMiB: 256 },
          { id: "ram-node1", kind: "memfd", sizeMiB: 512 },
        ],
        { isJson: true },
      ],
      ["2 nodes with files", ["a", "b"].map((id) => ({ id, kind: "file", sizeMiB: 384 })), {}],
    ];

    test.each(small)(
      "%s",
      async (_, nodes, how) => {
        const { memoryPath } = await frozenRow("6.1");
        expect(statSync(memoryPath).size).toBe(768 * MIB);
        await check(memoryPath, nodes, how);
      },
      bootMs,
    );

    test(
      "2 nodes with files, of which the second has the hole below 4 GiB in it",
      async () => {
        const { memoryPath } = await frozenRow("sid-4level");
        expect(statSync(memoryPath).size).toBe(3072 * MIB);
        const nodes = ["a", "b"].map((id) => ({ id, kind: "file", sizeMiB: 1536 }) as const);
        await check(memoryPath, nodes);
      },
      bootMs,
    );
  },
);
