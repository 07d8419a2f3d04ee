/** Validates `inspect --json` against its published schema. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import Ajv2020 from "ajv/dist/2020.js";
import schema from "../../schema/inspect.schema.json" with { type: "json" };
import { inspectionProblems } from "./schema.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");

test("the schema is a JSON Schema", () => {
  expect(new Ajv2020({ strict: true, allowUnionTypes: true }).validateSchema(schema)).toBe(true);
});

test("a report with a member of the wrong type is invalid", () => {
  expect(inspectionProblems({ schema: "ktstr-inspect", schema_version: 1, maps: "none" })).not.toEqual([]);
});

const isRoot = process.getuid?.() === 0;
if (!isRoot && process.env["KTSTR_REQUIRE_LIVE"] === "1")
  throw new Error("KTSTR_REQUIRE_LIVE=1, but not root");

test.skipIf(!isRoot)("the running kernel's report is valid", () => {
  const done = Bun.spawnSync([process.execPath, cli, "-j", "inspect"]);
  expect(done.exitCode).toBe(0);
  expect(inspectionProblems(JSON.parse(done.stdout.toString()))).toEqual([]);
});
