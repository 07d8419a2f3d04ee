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

/** Capstone.js's package does not have the notices of the sources that it was compiled from. */
const CAPSTONE = `Capstone (https://www.capstone-engine.org), which Capstone.js contains

The conditions of the BSD 3-Clause License above.
Copyright (c) 2013, COSEINC. All rights reserved. Nguyen Anh Quynh <aquynh@gmail.com>

Parts are from LLVM: University of Illinois/NCSA Open Source License
(LICENSE_LLVM.TXT of Capstone's sources)
Copyright (c) 2003-2013 University of Illinois at Urbana-Champaign. All rights reserved.
`;

/** Returns the text of `ktstr version licenses`. */
export function licensesText(): string {
  const parts = PACKAGES.map(([name, use, license]) => `${name}: ${use}\n\n${license.trim()}\n`);
  return [
    "ktstr: Apache License, version 2.0\n",
    ...parts,
    CAPSTONE,
    "Bun, which the executables contain: https://bun.com/docs/project/license\n",
  ].join(`\n${"-".repeat(80)}\n\n`);
}
