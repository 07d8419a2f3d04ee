import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AgentStream, type ExecResult, parseHeader } from "./agent.ts";
import { withPids } from "./answers.ts";
import { connectQmp, lineSplitter, parseQmp } from "./qmp.ts";

describe("bpftool's lists of maps", () => {
  test("the `pids` of one are put beside the words of the other, map by map", () => {
    const shown = '[{"id":1,"name":"a"},{"id":12,"name":"{}","btf_id":7},{"id":3,"name":"c"}]\n';
    const listed =
      '[{"id":1,"name":"a","pids":[{"pid":7,"comm":"x"},{"pid":8,"comm":"y"}]},' +
      '{"id":12,"name":"{}","btf_id":9,"pids":[{"pid":9,"comm":"z"}]},{"id":3,"name":"c"}]';
    expect(JSON.parse(withPids(shown, listed))).toEqual([
      {
        id: 1,
        name: "a",
        pids: [
          { pid: 7, comm: "x" },
          { pid: 8, comm: "y" },
        ],
      },
      { id: 12, name: "{}", btf_id: 7, pids: [{ pid: 9, comm: "z" }] },
      { id: 3, name: "c" },
    ]);
  });
});

describe("QMP", () => {
  test("a line is a greeting, an answer, an error or an event", () => {
    expect(parseQmp('{"QMP": {"version": {}}}')).toEqual({ kind: "greeting" });
    expect(parseQmp('{"return": {"a": 1}}')).toEqual({ kind: "answer", value: { a: 1 } });
    expect(parseQmp('{"error": {"class": "X", "desc": "no"}}')).toEqual({ kind: "error", description: "no" });
    expect(parseQmp('{"event": "STOP", "timestamp": {}}')).toEqual({ kind: "event", name: "STOP" });
    expect(parseQmp("{half")).toBeUndefined();
  });

  test("a line may come in several chunks, and a chunk may hold several lines", () => {
    const lines: string[] = [];
    const push = lineSplitter((line) => lines.push(line));
    for (const chunk of ["a", "b\nc\nd", "\n"]) push(chunk);
    expect(lines).toEqual(["ab", "c", "d"]);
  });

  test("answers find their commands past events, an error fails its own command, a closed socket fails the rest", async () => {
    const dir = mkdtempSync(join(tmpdir(), "ktstr-lab-"));
    const server = createServer((socket) => {
      socket.write('{"QMP": {}}\n');
      const take = lineSplitter((line) => {
        const { execute } = JSON.parse(line) as { execute: string };
        if (execute === "quit") socket.destroy();
        else if (execute === "wrong") socket.write('{"error": {"desc": "wrong it is"}}\n');
        else socket.write(`{"event": "RESUME"}\n{"return": "${execute}"}\n`);
      });
      socket.on("data", (chunk) => take(String(chunk)));
    });
    try {
      await new Promise<void>((resolve) => server.listen(join(dir, "qmp"), resolve));
      using qmp = await connectQmp(join(dir, "qmp"));
      const both = await Promise.all([qmp.command("stop"), qmp.command("cont")]);
      expect(both).toEqual(["stop", "cont"]);
      expect(qmp.command("wrong")).rejects.toThrow("wrong it is");
      expect(qmp.command("quit")).rejects.toThrow("QEMU closed it");
    } finally {
      server.close();
      rmSync(dir, { recursive: true });
    }
  });
});

describe("the agent's port", () => {
  const collect = (): { stream: AgentStream; results: [number, ExecResult][]; ready(): boolean } => {
    const results: [number, ExecResult][] = [];
    let ready = false;
    const stream = new AgentStream(
      () => {
        ready = true;
      },
      (id, result) => results.push([id, result]),
    );
    return { stream, results, ready: () => ready };
  };
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

  test("a header tells status and sizes; anything else is none", () => {
    expect(parseHeader("@@7 1 10 2")).toEqual({ id: 7, status: 1, outSize: 10, errSize: 2 });
    expect(parseHeader("@@7 1 10")).toBeUndefined();
    expect(parseHeader("[    1.0] some kernel line")).toBeUndefined();
  });

  test("output may look like headers and come byte by byte", () => {
    const { stream, results, ready } = collect();
    for (const byte of bytes("junk\r\n@@ready\r\n@@1 0 8 3\r\n@@2 0 0\nerr@@2 5 0 0\n"))
      stream.push(new Uint8Array([byte]));
    expect(ready()).toBe(true);
    expect(
      results.map(([id, result]) => [
        id,
        result.status,
        new TextDecoder().decode(result.stdout),
        result.stderr,
      ]),
    ).toEqual([
      [1, 0, "@@2 0 0\n", "err"],
      [2, 5, "", ""],
    ]);
  });

  test("several answers in one chunk are all given", () => {
    const { stream, results } = collect();
    stream.push(bytes("@@1 0 1 0\nx@@2 0 1 0\ny"));
    expect(results.map(([id]) => id)).toEqual([1, 2]);
  });
});
