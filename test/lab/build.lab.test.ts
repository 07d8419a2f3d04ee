/** Installed files: an executable in a guest that has only libc, and the package from its tarball. */
import { expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildExecutable } from "../../tools/build.ts";
import { Kit } from "../live/kit.ts";
import { loadProg, returns } from "../live/kit-progs.ts";
import { labSkipReason } from "./availability.ts";
import { cpio } from "./cpio.ts";
import { startGuest } from "./guest.ts";
import { withLibraries } from "./initramfs.ts";
import { run, tool } from "./process.ts";

const why = await labSkipReason();
const project = join(import.meta.dir, "../..");
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const GUEST_MS = 600_000;

/** Starts it in a hostile folder: nothing of the folder may run or be written (test/cli/trust.test.ts has the other ways to start). */
async function checkInHostileFolder(executable: string, folder: string): Promise<void> {
  const hostile = join(folder, "hostile");
  const ran = join(folder, "ran");
  await mkdir(hostile);
  const files = {
    "evil.ts": `require("node:fs").writeFileSync(${JSON.stringify(ran)}, "");`,
    "bunfig.toml": 'preload = ["./evil.ts"]\n',
    ".env": `XDG_CACHE_HOME=${hostile}/cache\n`,
    "tsconfig.json": '{"compilerOptions":{"baseUrl":".","paths":{"*":["./evil.ts"]}}}',
    "package.json": '{"name":"ktstr","main":"./evil.ts","imports":{"#*":"./evil.ts"}}',
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(hostile, name), text);
  const env = { PATH: "/usr/bin:/bin", HOME: hostile };
  const options = { cwd: hostile, env, stdout: "pipe", stderr: "pipe" } as const;
  const started = Bun.spawnSync([executable, "inspect", "--sample"], options);
  expect([started.exitCode, started.stderr.toString()]).toEqual([0, ""]);
  expect(await Bun.file(ran).exists()).toBe(false);
  expect((await readdir(hostile)).sort()).toEqual(Object.keys(files).sort());
  // The hostile folder works.
  Bun.spawnSync([process.execPath, join(project, "src/cli.ts"), "--version"], options);
  expect(await Bun.file(ran).exists()).toBe(true);
}

/** The disassembler is included: dumps machine code of a program of this machine. */
function checkDisassembler(command: readonly string[]): void {
  using kit = new Kit();
  const { id } = loadProg(kit, { type: "socket_filter", code: returns(4711) });
  const { stdout, stderr } = Bun.spawnSync([...command, "prog", "dump", "jited", "id", String(id)], {
    cwd: "/",
  });
  expect(stderr.toString()).toBe("");
  expect(stdout.toString()).toContain(process.arch === "arm64" ? "#0x1267" : "$0x1267,%eax");
}

const guests = [
  ["x64", "sid", "amd64"],
  ...(process.env["KTSTR_LAB"] === "all" ? [["arm64", "arm64", "arm64"] as const] : []),
] as const;

/** Bun's JIT crashes in half of all longer runs on an emulated arm64, and never if it is off; bun:ffi needs it. */
const settings = { amd64: "", arm64: "BUN_JSC_useJIT=0 " } as const;

test.skipIf(why !== "").each(guests)(
  "the %s executable shows the sample and the running kernel in a guest of %s that has only libc",
  async (arch, kernel, packageArch) => {
    const out = await mkdtemp(join(tmpdir(), "ktstr-build-"));
    try {
      const executable = await buildExecutable(arch, out);
      if (arch === "x64") {
        await checkInHostileFolder(executable, out);
        checkDisassembler([executable]);
      }
      const overlay = cpio(await withLibraries({ from: executable, to: "bin/ktstr" }, packageArch));
      await using guest = await startGuest({ kernel, memoryMiB: 1536, overlays: [overlay] });
      const here = await run([process.execPath, join(project, "src/cli.ts"), "inspect", "--sample"]);
      const there = await guest.exec(`cd / && ${settings[packageArch]}ktstr inspect --sample`, GUEST_MS);
      expect([there.status, there.stderr]).toEqual([0, ""]);
      expect(decode(there.stdout)).toBe(decode(here));
      await guest.exec("bpftool map create /sys/fs/bpf/one type hash key 4 value 8 entries 3 name one");
      await guest.exec("bpftool map update pinned /sys/fs/bpf/one key 1 0 0 0 value 2 0 0 0 0 0 0 0");
      const shown = await guest.exec("ktstr -j map dump name one", GUEST_MS);
      const bpftool = await guest.exec("bpftool -j map dump name one");
      expect(JSON.parse(decode(shown.stdout))).toEqual(JSON.parse(decode(bpftool.stdout)));
    } finally {
      await rm(out, { recursive: true, force: true });
    }
  },
  GUEST_MS,
);

test("the packed tarball, installed elsewhere, shows the sample, and does not contain the tests", async () => {
  const folder = await mkdtemp(join(tmpdir(), "ktstr-packed-"));
  try {
    await run([tool("npm"), "pack", "--silent", "--pack-destination", folder, project]);
    const [archive] = (await readdir(folder)).filter((name) => name.endsWith(".tgz"));
    const names = decode(await run(["tar", "-tzf", join(folder, archive!)])).split("\n");
    expect(names.filter((name) => /^package\/(test|bench|tools|dist)\//.test(name)).sort()).toEqual([
      "package/dist/cli.js",
      "package/dist/cli.js.jsc",
    ]);
    // Installed as a package manager does: the package, its dependencies next to it, and a link to its program.
    const modules = join(folder, "app/node_modules");
    await run(["mkdir", "-p", join(modules, "ktstr"), join(modules, ".bin")]);
    await run(["tar", "-xzf", join(folder, archive!), "-C", join(modules, "ktstr"), "--strip-components=1"]);
    const { bin, dependencies } = (await Bun.file(join(modules, "ktstr/package.json")).json()) as {
      bin: { ktstr: string };
      dependencies: Readonly<Record<string, string>>;
    };
    for (const name of Object.keys(dependencies))
      await cp(join(project, "node_modules", name), join(modules, name), { recursive: true });
    const command = join(modules, "ktstr", bin.ktstr);
    for (const file of [command, `${command}.jsc`])
      expect(Buffer.from(await Bun.file(file).bytes()).includes(project)).toBe(false);
    await run(["chmod", "+x", command]);
    await symlink(join("../ktstr", bin.ktstr), join(modules, ".bin/ktstr"));
    const { exitCode, stdout, stderr } = Bun.spawnSync(
      [process.execPath, "x", "ktstr", "inspect", "--sample"],
      {
        cwd: join(folder, "app"),
        env: { ...process.env, NO_COLOR: "1" },
      },
    );
    const here = await run([process.execPath, join(project, "src/cli.ts"), "inspect", "--sample"]);
    expect([exitCode, stderr.toString(), stdout.toString()]).toEqual([0, "", decode(here)]);
    checkDisassembler([join(modules, ".bin/ktstr")]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 120_000);
