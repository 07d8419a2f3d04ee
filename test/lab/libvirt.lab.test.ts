/**
 * Files that virsh writes of a paused domain, compared with QEMU's pmemsave of the same moment. libvirt's QEMU driver runs
 * within virsh (`qemu:///embed`), as nobody: no daemon, and nothing of the machine's own libvirt.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectAgent } from "./agent.ts";
import { labSkipReason } from "./availability.ts";
import { buildBpftool } from "./bpftool.ts";
import type { Guest } from "./guest.ts";
import { baseInitramfs } from "./initramfs.ts";
import { fetchKernel } from "./kernels.ts";
import { loadOverlay, startZoo } from "./load.ts";
import { LabError } from "./process.ts";
import { qemuFor } from "./qemu.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 600_000;
const saveMs = 300_000;
const MEMORY_MIB = 512;
const NOBODY = 65_534;

const everything = process.env["KTSTR_LAB"] === "all";
const why = (await labSkipReason()) || (Bun.which("virsh") === null ? "no virsh on this machine" : "");
if (why !== "" && process.env["KTSTR_REQUIRE_LAB"] === "1")
  throw new Error(`KTSTR_REQUIRE_LAB=1, but ${why}`);

describe.skipIf(why !== "")(`a domain of libvirt${why === "" ? "" : `: ${why}`}`, () => {
  let folder = "";
  let reference = "";
  const path = (name: string): string => join(folder, name);
  const out = (name: string): string => join(folder, "libvirt", name);

  async function run(...argv: readonly string[]): Promise<{ out: string; err: string; status: number }> {
    const child = Bun.spawn([...argv], { stderr: "pipe" });
    const [text, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    return { out: text, err, status };
  }

  /** Runs commands in one virsh, in order. A failure is a `LabError`. */
  async function virsh(...commands: readonly string[]): Promise<void> {
    const user =
      process.getuid?.() === 0 ? ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"] : [];
    const home = out("");
    const uri = `qemu:///embed?root=${home}`;
    const env = ["env", `HOME=${home}`, `XDG_RUNTIME_DIR=${home}`, "LC_ALL=C"];
    const { err, out: said } = await run(...user, ...env, "virsh", "-c", uri, commands.join("; "));
    const failures = err.split("\n").filter((line) => line.startsWith("error:"));
    if (failures.length > 0)
      throw new LabError(`lab: virsh ${commands.join("; ")}: ${failures.join(" ")} ${said}`);
  }

  const configure = (format: string): void =>
    writeFileSync(
      out("etc/qemu.conf"),
      `stdio_handler = "file"\nsecurity_driver = "none"\nsave_image_format = "${format}"\n`,
    );

  const inspect = async (file: string): Promise<string> => {
    const { out: text, err, status } = await run(process.execPath, cli, "-j", "inspect", "--memory", file);
    expect([status, err]).toEqual([0, ""]);
    return text;
  };

  /** The machine's emulator with the lab's kernel and userland; the port of its agent is a socket. */
  const domain = (kernelArguments: string): string => `<domain type='qemu'>
  <name>lab</name>
  <memory unit='MiB'>${MEMORY_MIB}</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>${path("vmlinuz")}</kernel>
    <initrd>${path("initrd")}</initrd>
    <cmdline>${kernelArguments}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <devices>
    <emulator>${Bun.which(qemuFor.amd64)}</emulator>
    <serial type='file'><source path='${out("console")}'/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path='${out("agent")}'/><target port='1'/></serial>
  </devices>
</domain>
`;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-libvirt-"));
    chmodSync(folder, 0o755);
    mkdirSync(out("etc"), { recursive: true });
    for (const each of ["", "etc"]) chmodSync(out(each), 0o777);
    const kernel = await fetchKernel("6.1");
    copyFileSync(kernel.image, path("vmlinuz"));
    const load = await loadOverlay({ schedulers: [], zoo: true }, kernel);
    writeFileSync(
      path("initrd"),
      Buffer.concat([await baseInitramfs(kernel.arch, await buildBpftool(kernel.arch)), load]),
    );
    const words = "console=ttyS0 panic=0 lab.port=ttyS1 quiet rcupdate.rcu_cpu_stall_suppress=1";
    writeFileSync(path("domain.xml"), domain(words));
    configure("raw");
    await virsh(`create ${path("domain.xml")}`);
    using agent = connectAgent(out("agent"));
    await agent.ready;
    await startZoo({ exec: (script: string) => agent.exec(script) } as unknown as Guest);
    const pmemsave = {
      execute: "pmemsave",
      arguments: { val: 0, size: MEMORY_MIB * 2 ** 20, filename: out("memory") },
    };
    await virsh("suspend lab", `qemu-monitor-command lab '${JSON.stringify(pmemsave)}'`);
    reference = await inspect(`${out("memory")}@0`);
  }, bootMs);

  afterAll(async () => {
    if (folder === "") return;
    await virsh("destroy lab").catch(() => {});
    rmSync(folder, { recursive: true, force: true });
  });

  test("has a non-trivial answer", () => {
    expect(reference.length).toBeGreaterThan(100_000);
  });

  for (const format of ["elf", "kdump-zlib"])
    test(
      `virsh dump --memory-only --format ${format}`,
      async () => {
        await virsh(`dump lab ${out("dump")} --memory-only --format ${format}`);
        expect(await inspect(out("dump"))).toBe(reference);
        rmSync(out("dump"));
      },
      saveMs,
    );

  // A domain that is restored and stays paused has the memory that was saved, so the reference stays the same.
  for (const format of ["raw", "gzip", "lzop", "xz", "bzip2"]) {
    const isSlow = format === "xz" || format === "bzip2";
    test.skipIf(isSlow && !everything)(
      `virsh save with save_image_format = "${format}"${isSlow && !everything ? ": KTSTR_LAB=all" : ""}`,
      async () => {
        configure(format);
        await virsh(`save lab ${out("saved")}`);
        expect(await inspect(`${out("saved")}@0`)).toBe(reference);
        await virsh(`restore ${out("saved")} --paused`);
        rmSync(out("saved"));
      },
      saveMs,
    );
  }

  // This test is the last: QEMU does not migrate a machine again that a migration stopped.
  test(
    "virsh dump: a migration stream without a header",
    async () => {
      await virsh(`dump lab ${out("dump")}`);
      expect(readFileSync(out("dump")).toString("latin1", 0, 4)).toBe("QEVM");
      expect(await inspect(`${out("dump")}@0`)).toBe(reference);
      rmSync(out("dump"));
    },
    saveMs,
  );
});
