/** Maps and programs of the running kernel whose holder ktstr cannot find. */
import { expect, test } from "bun:test";
import { kernelSkipReason, ktstr } from "./bpftool.ts";

interface Lost {
  readonly map: number;
  readonly prog: number;
}

/** Returns the warnings of `inspect` about the two objects. */
function warningsAbout({ map, prog }: Lost): string[] {
  const { warnings } = JSON.parse(ktstr(["-j", "inspect", "--limit", "0"]).out) as { warnings: string[] };
  return warnings.flatMap((sentence) => {
    if (!sentence.includes("no holder found")) return [];
    return (
      sentence
        .match(new RegExp(`(?<=found for )(map|program)|\\b(${map}|${prog}) \\(\\w+\\)`, "g"))
        ?.join(" ") ?? []
    );
  });
}

async function withLost(how: string, ask: (lost: Lost) => void): Promise<void> {
  const script = new URL("lost-map.ts", import.meta.url).pathname;
  const child = Bun.spawn([process.execPath, script, how], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  try {
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    ask(JSON.parse(new TextDecoder().decode(value)) as Lost);
    reader.releaseLock();
  } finally {
    child.stdin.end();
    await child.exited;
  }
}

test.skipIf(kernelSkipReason() !== "")(
  "a map in a socket's queue and a program on a socket are in the warning; objects with a descriptor are not",
  async () => {
    await withLost("lost", (lost) => {
      const sentences = warningsAbout(lost);
      expect(sentences.filter((one) => one.includes(`${lost.map} (lost_map)`)).length).toBe(1);
      expect(sentences.filter((one) => one.includes(`${lost.prog} (lost_prog)`)).length).toBe(1);
      expect(ktstr(["map", "show", "id", String(lost.map), "--holders"]).out).toContain("no holder found");
    });
    await withLost("held", (lost) => {
      expect(warningsAbout(lost).filter((one) => one.includes("lost_"))).toEqual([]);
    });
  },
  60_000,
);
