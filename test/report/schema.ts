import Ajv2020 from "ajv/dist/2020.js";
import schema from "../../schema/inspect.schema.json" with { type: "json" };

const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(schema);

/** What of a report does not follow the schema, as sentences; empty where all does. */
export function inspectionProblems(report: unknown): string[] {
  if (validate(report)) return [];
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath}: ${message}`);
}
