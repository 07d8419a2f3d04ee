/** Validates JSON against the published schemas. */
import Ajv2020 from "ajv/dist/2020.js";
import diffSchema from "../../schema/diff.schema.json" with { type: "json" };
import dmesgSchema from "../../schema/dmesg.schema.json" with { type: "json" };
import schema from "../../schema/inspect.schema.json" with { type: "json" };
import recordSchema from "../../schema/record.schema.json" with { type: "json" };
import schedSchema from "../../schema/sched.schema.json" with { type: "json" };
import schedDumpSchema from "../../schema/sched-dump.schema.json" with { type: "json" };
import taskSchema from "../../schema/task.schema.json" with { type: "json" };
import taskStackSchema from "../../schema/task-stack.schema.json" with { type: "json" };
import topSchema from "../../schema/top.schema.json" with { type: "json" };

const ajv = new Ajv2020({ allErrors: true, allowUnionTypes: true });
const validators = {
  inspect: ajv.compile(schema),
  diff: ajv.compile(diffSchema),
  sched: ajv.compile(schedSchema),
  schedDump: ajv.compile(schedDumpSchema),
  task: ajv.compile(taskSchema),
  taskStack: ajv.compile(taskStackSchema),
  dmesg: ajv.compile(dmesgSchema),
  record: ajv.compile(recordSchema),
  top: ajv.compile(topSchema),
};

function problems(kind: keyof typeof validators, report: unknown): string[] {
  const validate = validators[kind];
  if (validate(report)) return [];
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath}: ${message}`);
}

/** Returns the violations of the schema as sentences; empty if there are none. */
export const inspectionProblems = (report: unknown): string[] => problems("inspect", report);
export const taskStackProblems = (report: unknown): string[] => problems("taskStack", report);
export const taskProblems = (report: unknown): string[] => problems("task", report);
export const dmesgProblems = (report: unknown): string[] => problems("dmesg", report);
export const recordProblems = (line: unknown): string[] => problems("record", line);
export const topProblems = (line: unknown): string[] => problems("top", line);
export const diffProblems = (report: unknown): string[] => problems("diff", report);
export const schedProblems = (report: unknown): string[] => problems("sched", report);
export const schedDumpProblems = (report: unknown): string[] => problems("schedDump", report);
