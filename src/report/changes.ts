/** Differences between two values, by the C path of each changed part. */
import type { ParsedJson } from "./parse-json.ts";

export interface Change {
  /** C expression that begins with the variable's name: "stats.runs[3]". */
  readonly path: string;
  /** undefined: this side has no such part. */
  readonly a: ParsedJson | undefined;
  readonly b: ParsedJson | undefined;
}

/** Returns the changes in the values' order. A scalar that became a struct, or the reverse, is one change. */
export function changesOf(path: string, a: ParsedJson | undefined, b: ParsedJson | undefined): Change[] {
  const changes: Change[] = [];
  collect(changes, path, a, b);
  return changes;
}

type Parts = { readonly [key: string]: ParsedJson };

function collect(into: Change[], path: string, a: ParsedJson | undefined, b: ParsedJson | undefined): void {
  if (a === b) return;
  if (Array.isArray(a) && Array.isArray(b)) {
    const [as, bs] = [a as readonly ParsedJson[], b as readonly ParsedJson[]];
    for (let index = 0; index < Math.max(as.length, bs.length); index++)
      collect(into, `${path}[${index}]`, as[index], bs[index]);
  } else if (isStruct(a) && isStruct(b)) {
    for (const key in a) collect(into, `${path}.${key}`, a[key], b[key]);
    for (const key in b) if (a[key] === undefined) collect(into, `${path}.${key}`, undefined, b[key]);
  } else into.push({ path, a, b });
}

function isStruct(value: ParsedJson | undefined): value is Parts {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
