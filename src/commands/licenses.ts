/** The licenses of the packages whose code is in ktstr's executable and in its package on npm. */
import capstone from "../../node_modules/@alexaltea/capstone-js/LICENSE" with { type: "text" };
import citty from "../../node_modules/citty/LICENSE" with { type: "text" };
import consola from "../../node_modules/consola/LICENSE" with { type: "text" };
import uplot from "../../node_modules/uplot/LICENSE" with { type: "text" };

const PACKAGES: readonly (readonly [name: string, use: string, license: string])[] = [
  ["citty", "parses the command line", citty],
  ["consola", "prints messages", consola],
  ["Capstone.js", "disassembles machine code", capstone],
  ["uPlot", "draws the charts of reports", uplot],
];

/** Returns the text of `ktstr version licenses`. */
export function licensesText(): string {
  const parts = PACKAGES.map(([name, use, license]) => `${name}: ${use}\n\n${license.trim()}\n`);
  return [
    "ktstr: Apache License, version 2.0\n",
    ...parts,
    "Capstone (https://www.capstone-engine.org), which Capstone.js contains: BSD license, 3 clauses, (c) Nguyen Anh Quynh\n",
    "Bun, which the executables contain: https://bun.com/docs/project/license\n",
  ].join(`\n${"-".repeat(80)}\n\n`);
}
