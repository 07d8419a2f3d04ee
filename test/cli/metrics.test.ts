/** `ktstr metrics` as a server and as a file, on the running kernel, compared with bpftool. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { placeOf } from "../../src/commands/metrics.ts";
import { bpftoolJson, CLI, kernelSkipReason, ktstr } from "../live/bpftool.ts";
import { Kit } from "../live/kit.ts";
import { loadProg, testRun } from "../live/kit-progs.ts";
import { type ParsedFamily, parseMetrics, parserSkipReason } from "../report/metrics-parser.ts";

const why = kernelSkipReason() || parserSkipReason();

/** Serves on a free port until the end of the test. */
async function served(
  ...place: string[]
): Promise<AsyncDisposable & { url: string; end(signal: NodeJS.Signals): Promise<number> }> {
  const listen = place[0] ?? `127.0.0.1:${freePort()}`;
  const server = Bun.spawn([process.execPath, CLI, "metrics", "--listen", listen], {
    stdout: "inherit",
    stderr: "pipe",
  });
  const reader = server.stderr.getReader();
  let said = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`it did not start: ${said}`);
    said += Buffer.from(value).toString();
    const [, url] = /metrics are at (\S+),/.exec(said) ?? [];
    if (url === undefined) continue;
    reader.releaseLock();
    return {
      url,
      async end(signal) {
        server.kill(signal);
        return await server.exited;
      },
      async [Symbol.asyncDispose]() {
        server.kill("SIGKILL");
        await server.exited;
      },
    };
  }
}

function freePort(): number {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const { port } = server;
  void server.stop(true);
  return port ?? 0;
}

const sampleOf = (families: readonly ParsedFamily[], family: string, id: number): number | undefined =>
  families
    .find(({ name }) => name === family)
    ?.samples.find(([, labels]) => labels["id"] === String(id))?.[2];

describe.skipIf(why !== "")(`metrics of the running kernel${why}`, () => {
  test("are equal to bpftool's numbers for the same program and map", async () => {
    using kit = new Kit();
    const map = kit.map({ type: "hash", name: "metric_map", valueSize: 8, maxEntries: 100 });
    kit.fill(map, 37);
    const prog = loadProg(kit, { type: "socket_filter", name: "metric_prog" });
    await using server = await served();
    // Statistics are on while it serves.
    testRun(prog, 1234);
    const answer = await fetch(server.url, { headers: { accept: "application/openmetrics-text" } });
    expect(answer.headers.get("content-type")).toBe(
      "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    const families = parseMetrics(await answer.text(), "openmetrics");
    const program = bpftoolJson("prog", "show", "id", String(prog.id)) as {
      run_cnt: number;
      run_time_ns: number;
    };
    expect(program.run_cnt).toBe(1234);
    expect(sampleOf(families, "ktstr_program_runs", prog.id)).toBe(1234);
    expect(sampleOf(families, "ktstr_program_run_time_seconds", prog.id)).toBe(program.run_time_ns / 1e9);
    const shown = bpftoolJson("map", "show", "id", String(map.id)) as {
      bytes_memlock: number;
      max_entries: number;
    };
    expect(sampleOf(families, "ktstr_map_entries", map.id)).toBe(37);
    expect(sampleOf(families, "ktstr_map_memory_bytes", map.id)).toBe(shown.bytes_memlock);
    expect(sampleOf(families, "ktstr_map_max_entries", map.id)).toBe(shown.max_entries);
    const [, labels] = families
      .find(({ name }) => name === "ktstr_map_entries")!
      .samples.find(([, { id }]) => id === String(map.id))!;
    expect(labels).toEqual({ id: String(map.id), name: "metric_map", type: "hash" });
  });

  test("a program and a map that were freed have no series", async () => {
    await using server = await served();
    const ids = await (async () => {
      using kit = new Kit();
      const map = kit.map({ type: "hash", name: "metric_gone" });
      const text = await (await fetch(server.url)).text();
      expect(parseMetrics(text, "prometheus").length).toBeGreaterThan(5);
      expect(text).toContain(`id="${map.id}",name="metric_gone"`);
      return map.id;
    })();
    await Bun.sleep(300);
    expect(await (await fetch(server.url)).text()).not.toContain(`id="${ids}"`);
  });

  test("other paths, other methods and large bodies are errors, and do not end the server", async () => {
    await using server = await served();
    const root = server.url.replace(/metrics$/, "");
    for (const path of ["", "metrics/", "metricsx", "..%2fmetrics", "%", "metrics%00", "a".repeat(3000)])
      expect([path, (await fetch(root + path)).status]).toEqual([path, 404]);
    for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
      const answer = await fetch(server.url, { method });
      expect([method, answer.status, answer.headers.get("allow")]).toEqual([method, 405, "GET, HEAD"]);
    }
    const large = await fetch(server.url, { method: "POST", body: "x".repeat(100_000) });
    expect([405, 413]).toContain(large.status);
    const head = await fetch(server.url, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    const { status, headers } = await fetch(`${server.url}?x=1`);
    expect([status, headers.get("content-type")]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  });

  test("concurrent clients get the same reading", async () => {
    await using server = await served();
    const texts = await Promise.all(Array.from({ length: 20 }, async () => (await fetch(server.url)).text()));
    const took = texts.map((text) => /^ktstr_read_duration_seconds (.*)$/m.exec(text)?.[1]);
    expect(new Set(took).size).toBeLessThan(10);
  });

  test.each(["SIGINT", "SIGTERM"] as const)(
    "%s ends it with status 0, and frees its port",
    async (signal) => {
      await using server = await served();
      const place = new URL(server.url).host;
      expect(await server.end(signal)).toBe(0);
      await using again = await served(place);
      expect((await fetch(again.url)).status).toBe(200);
      const refused = ktstr(["metrics", "--listen", place]);
      expect([refused.status, refused.err.includes("EADDRINUSE")]).toEqual([1, true]);
    },
  );
});

describe.skipIf(why !== "")(`--once${why}`, () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "ktstr-metrics-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test("replaces a file as a whole, readable for node_exporter's user", () => {
    const path = join(folder, "ktstr.prom");
    writeFileSync(path, "before");
    const ran = ktstr(["metrics", "--once", "-o", path]);
    expect(ran).toMatchObject({ status: 0, err: "" });
    expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(readdirSync(folder)).toEqual(["ktstr.prom"]);
    expect(parseMetrics(readFileSync(path, "utf8"), "prometheus").length).toBeGreaterThan(5);
  });

  test("prints without -o", () => {
    expect(parseMetrics(ktstr(["metrics", "--once"]).out, "prometheus").length).toBeGreaterThan(5);
  });

  test("without privilege is an error, and leaves the file unchanged", () => {
    const path = join(folder, "ktstr.prom");
    const ran = ktstr(["metrics", "--once", "-o", path], {
      under: ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
    });
    expect([ran.status, ran.out, existsSync(path)]).toEqual([1, "", false]);
    expect(ran.err).toContain("CAP_SYS_ADMIN");
  });
});

test.each([
  [["metrics"], "--listen ADDRESS:PORT, or --once"],
  [["metrics", "--once", "--listen", "9435"], "--listen ADDRESS:PORT, or --once"],
  [["metrics", "--listen", "9435", "-o", "x"], "--listen ADDRESS:PORT, or --once"],
  [["metrics", "--listen", "localhost"], "neither ADDRESS:PORT nor PORT"],
  [["metrics", "--listen", "127.0.0.1:65536"], "neither ADDRESS:PORT nor PORT"],
  [["metrics", "--listen", "::1:9435"], "neither ADDRESS:PORT nor PORT"],
  [["metrics", "--once", "--sample"], "counters do not change"],
  [["metrics", "what", "--once"], "unexpected arguments: what"],
])("%j is wrong usage", (args, sentence) => {
  const { status, out, err } = ktstr(args);
  expect([status, out, err.includes(sentence)]).toEqual([2, "", true]);
});

test("a port without an address listens on the loopback interface only", () => {
  expect(placeOf("9435")).toEqual({ hostname: "127.0.0.1", port: 9435 });
  expect(placeOf(":9435")).toEqual({ hostname: "127.0.0.1", port: 9435 });
  expect(placeOf("0.0.0.0:9435")).toEqual({ hostname: "0.0.0.0", port: 9435 });
  expect(placeOf("[::1]:9435")).toEqual({ hostname: "::1", port: 9435 });
  expect(placeOf("localhost:0")).toEqual({ hostname: "localhost", port: 0 });
});
