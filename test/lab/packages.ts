/**
 * Fetches and unpacks Debian packages without installing them: apt with a private state per suite and architecture,
 * `apt-get download`, `dpkg-deb`. The package lists in the cache give the versions, which change only with `updateLists`.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir, writeWhole } from "./cache.ts";
import { LabError, run, runText, tool } from "./process.ts";

export type Arch = "amd64" | "arm64";
export type Suite = "sid" | "trixie-backports" | "trixie" | "bookworm" | "bullseye";

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const noNetwork = "the first fetch needs the network and a Debian mirror; later boots run from the cache";

/** One stanza of apt's output: values by field name. */
type Stanza = ReadonlyMap<string, string>;

/** Parses the output of `apt-cache show` (deb822): `Field: value`; continuation lines start with a blank. */
export function parseStanzas(text: string): Stanza[] {
  const stanzas: Stanza[] = [];
  for (const block of text.split(/\n{2,}/)) {
    const fields = new Map<string, string>();
    let last = "";
    for (const line of block.split("\n")) {
      if (/^\s/.test(line)) fields.set(last, `${fields.get(last) ?? ""}\n${line.trim()}`);
      else {
        const colon = line.indexOf(":");
        if (colon <= 0) continue;
        last = line.slice(0, colon);
        fields.set(last, line.slice(colon + 1).trim());
      }
    }
    if (fields.size > 0) stanzas.push(fields);
  }
  return stanzas;
}

/** Returns the Debian archive among apt's sources, which are one-line lists and deb822 files; undefined if there is none. */
export function mirrorIn(
  sources: readonly { readonly name: string; readonly text: string }[],
): string | undefined {
  for (const { name, text } of sources) {
    const uris = name.endsWith(".sources")
      ? parseStanzas(text).flatMap((stanza) => (stanza.get("URIs") ?? "").split(/\s+/))
      : text.split("\n").flatMap((line) => /^deb\s+(?:\[[^\]]*\]\s*)?(\S+)/.exec(line)?.[1] ?? []);
    const archive = uris.find((uri) => /\/debian\/?$/.test(uri));
    if (archive !== undefined) return archive.replace(/\/$/, "");
  }
  return undefined;
}

async function mirror(): Promise<string> {
  const named = process.env["KTSTR_LAB_MIRROR"];
  if (named !== undefined && named !== "") return named;
  const files = ["/etc/apt/sources.list"];
  const folder = "/etc/apt/sources.list.d";
  if (existsSync(folder)) for (const name of (await readdir(folder)).sort()) files.push(join(folder, name));
  const sources: { name: string; text: string }[] = [];
  for (const name of files) if (existsSync(name)) sources.push({ name, text: await readFile(name, "utf8") });
  const uri = mirrorIn(sources);
  if (uri !== undefined) return uri;
  throw new LabError("lab: apt's sources in /etc/apt contain no Debian archive", {
    hint: "set KTSTR_LAB_MIRROR to a mirror, such as the URI in the sources file of a Debian machine",
  });
}

const stateDir = (suite: Suite, arch: Arch): string => join(labDir(), "apt", `${suite}-${arch}`);

async function writeConfig(suite: Suite, arch: Arch, dir: string): Promise<void> {
  const final = stateDir(suite, arch);
  const signed = existsSync(keyring) ? `[signed-by=${keyring}] ` : "";
  await mkdir(join(dir, "lists", "partial"), { recursive: true });
  await mkdir(join(dir, "cache", "archives", "partial"), { recursive: true });
  await writeWhole(join(dir, "sources.list"), `deb ${signed}${await mirror()} ${suite} main\n`);
  await writeWhole(
    join(dir, "apt.conf"),
    `Dir::Etc::sourcelist "${final}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "${final}";
Dir::State::Lists "${final}/lists";
Dir::State::status "/dev/null";
Dir::Cache "${final}/cache";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
APT::Architecture "${arch}";
APT::Architectures { "${arch}"; };
`,
  );
}

const aptEnv = (suite: Suite, arch: Arch): { APT_CONFIG: string; LC_ALL: string } => ({
  APT_CONFIG: join(stateDir(suite, arch), "apt.conf"),
  LC_ALL: "C",
});

/** The data of a package list that the lab uses: version and dependencies by package name. */
type Index = { readonly [name: string]: { readonly version: string; readonly depends: string } };

const indexPath = (suite: Suite, arch: Arch): string => join(stateDir(suite, arch), "index.json");

/** Fetches a suite's package lists, and writes the index to a file, because apt takes a second to open its lists. */
async function fetchLists(suite: Suite, arch: Arch): Promise<void> {
  await cached(stateDir(suite, arch), (dir) => writeConfig(suite, arch, dir));
  await cached(indexPath(suite, arch), async (fresh) => {
    const env = aptEnv(suite, arch);
    const quiet = ["-q", "-o", "APT::Update::Error-Mode=any", "update"];
    await run(["apt-get", ...quiet], { env, hint: noNetwork });
    const index: { [name: string]: { version: string; depends: string } } = {};
    for (const stanza of parseStanzas(await runText(["apt-cache", "dumpavail"], { env }))) {
      const version = stanza.get("Version") ?? "";
      index[stanza.get("Package") ?? ""] = { version, depends: stanza.get("Depends") ?? "" };
    }
    await writeWhole(fresh, JSON.stringify(index));
  });
}

const indexes = new Map<string, Promise<Index>>();

async function readIndex(suite: Suite, arch: Arch): Promise<Index> {
  const path = indexPath(suite, arch);
  if (!existsSync(path)) await fetchLists(suite, arch);
  return JSON.parse(await readFile(path, "utf8")) as Index;
}

/** Fetches the suite's package lists again. Only this function changes versions. */
export async function updateLists(suite: Suite, arch: Arch): Promise<void> {
  await rm(indexPath(suite, arch), { force: true });
  indexes.delete(`${suite}-${arch}`);
  await fetchLists(suite, arch);
}

/** Returns the suite's index, which is read once. */
function indexOf(suite: Suite, arch: Arch): Promise<Index> {
  const key = `${suite}-${arch}`;
  const index = indexes.get(key) ?? readIndex(suite, arch);
  indexes.set(key, index);
  // A failed read is repeated at the next call, when the network may work again.
  index.catch(() => indexes.delete(key));
  return index;
}

/** Returns the names of the suite's packages that match. */
export async function packagesLike(suite: Suite, arch: Arch, pattern: RegExp): Promise<string[]> {
  return Object.keys(await indexOf(suite, arch)).filter((name) => pattern.test(name));
}

/** Returns a package's version and dependencies. Throws `LabError` if the suite does not have it. */
export async function describe(suite: Suite, arch: Arch, name: string): Promise<Index[string]> {
  const found = (await indexOf(suite, arch))[name];
  if (found !== undefined) return found;
  throw new LabError(`lab: ${suite} (${arch}) has no package ${name}`, {
    hint: "`bun run lab fetch --update` fetches the package lists again",
  });
}

/** Returns the names in a `Depends` field: the first of each alternative, without versions. */
export function dependsOf(described: { readonly depends: string }): string[] {
  const names = described.depends.split(",").map((part) => /^\s*([^\s|(:]+)/.exec(part)?.[1] ?? "");
  return names.filter((name) => name !== "");
}

async function download(suite: Suite, arch: Arch, name: string): Promise<string> {
  const version = (await describe(suite, arch, name)).version;
  const path = join(labDir(), "debs", `${suite}-${arch}`, `${name}_${version.replaceAll(":", "%3a")}.deb`);
  return cached(path, async (fresh) => {
    const dir = `${fresh}.d`;
    await mkdir(dir, { recursive: true });
    try {
      const options = { cwd: dir, env: aptEnv(suite, arch), timeoutMs: 900_000, hint: noNetwork };
      await run(["apt-get", "-q", "download", `${name}=${version}`], options);
      const [file] = await readdir(dir);
      await run(["mv", join(dir, file ?? ""), fresh]);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
}

export interface TreeOptions {
  /** Only these paths of the packages, as tar patterns ("./boot/*"). */
  readonly only?: readonly string[];
}

/** Returns a folder with the contents of these packages, as if they were installed (merged /usr). */
export async function packageTree(
  suite: Suite,
  arch: Arch,
  names: readonly string[],
  options: TreeOptions = {},
): Promise<string> {
  const versions: string[] = [];
  for (const name of names) versions.push(`${name}=${(await describe(suite, arch, name)).version}`);
  const only = options.only ?? [];
  const key = keyOf(...versions, "only", ...only);
  return cached(join(labDir(), "trees", `${suite}-${arch}-${names[0]}-${key}`), async (fresh) => {
    await mkdir(join(fresh, "usr", "lib64"), { recursive: true });
    for (const folder of ["bin", "sbin", "lib"]) await mkdir(join(fresh, "usr", folder));
    for (const folder of ["bin", "sbin", "lib", "lib64"]) await symlink(`usr/${folder}`, join(fresh, folder));
    for (const name of names) await unpack(await download(suite, arch, name), fresh, only);
  });
}

async function unpack(deb: string, into: string, only: readonly string[]): Promise<void> {
  const dpkg = Bun.spawn([tool("dpkg-deb"), "--fsys-tarfile", deb], { stdout: "pipe", stderr: "ignore" });
  const patterns = only.length === 0 ? [] : ["--wildcards", ...only];
  const argv = [tool("tar"), "-x", "--keep-directory-symlink", "--no-same-owner", "-C", into, ...patterns];
  const tar = Bun.spawn(argv, { stdin: dpkg.stdout, stdout: "ignore", stderr: "pipe" });
  const [complaint, status] = await Promise.all([tar.stderr.text(), tar.exited]);
  // A pattern need not match in every package.
  const nothingMatched = only.length > 0 && /Not found in archive/.test(complaint);
  if (status !== 0 && !nothingMatched) throw new LabError(`lab: unpack ${deb}: ${complaint.trim()}`);
}
