/** `bun run bench --check`: comparison of ratios with the saved ones. */
import { expect, test } from "bun:test";
import { compare, type Measured, printComparison } from "../../bench/baseline.ts";

const row = (ratio: number, noise = 0.02): Measured => ({ name: "hash", ratio, noise });

test("a ratio that is 15 % higher is not worse; one that is 16 % higher is", () => {
  expect(compare({ hash: 1 }, [row(1.15)]).worse).toEqual([]);
  expect(compare({ hash: 1 }, [row(1.16)]).worse).toEqual([
    "hash: 1 before, 1.160 now: 16 % worse, noise ±2 %",
  ]);
});

test("an increase of less than twice the noise is unsure, and does not fail", () => {
  const { worse, unsure } = compare({ hash: 1 }, [row(1.3, 0.16)]);
  expect(worse).toEqual([]);
  expect(unsure).toEqual(["hash: 1 before, 1.300 now: 30 % worse, noise ±16 %"]);
  expect(compare({ hash: 1 }, [row(1.3, 0.15)]).worse).toHaveLength(1);
});

test("a ratio that decreased is not reported", () => {
  expect(compare({ hash: 2 }, [row(0.5)])).toEqual({ worse: [], unsure: [], unknown: [] });
});

test("ratios below 1 are compared relatively", () => {
  expect(compare({ hash: 0.2 }, [row(0.25)]).worse).toHaveLength(1);
});

test("a case that is not in the baseline is listed and does not fail; one that was not measured is ignored", () => {
  expect(compare({ other: 1 }, [row(9)])).toEqual({
    worse: [],
    unsure: [],
    unknown: ["hash: not in the baseline"],
  });
});

test("the text lists the cases that got worse, or says that none did", () => {
  const said = (ratio: number): string[] => {
    const lines: string[] = [];
    printComparison(compare({ hash: 1 }, [row(ratio)]), (line) => lines.push(line));
    return lines;
  };
  expect(said(2)).toEqual(["WORSE: hash: 1 before, 2.000 now: 100 % worse, noise ±2 %"]);
  expect(said(1)).toEqual(["nothing got worse by more than 15 %"]);
});
