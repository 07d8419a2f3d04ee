/** `--filter`, `--sort` and `--limit` over plain records: the same expressions as for maps, with named fields as members. */
import { hintOf, PathError } from "../btf/place.ts";
import type { Scalar } from "../btf/scalar.ts";
import { UsageError } from "../errors.ts";
import { compileExpression, type MemberReader, type Members } from "./filter-compile.ts";
import type { Query } from "./query.ts";
import { compare } from "./sort.ts";

/** A field of a record. A record may have no value (`undefined`): it matches no comparison but `!=`, and is sorted last. */
export interface Field<R> {
  readonly kind: "number" | "text";
  readonly read: (record: R) => Scalar | undefined;
}

export type Fields<R> = Readonly<Record<string, Field<R>>>;

/** Throws `UsageError`, before the first record is read, if a field does not exist or the operands cannot be compared. */
export function queryRecords<R>(fields: Fields<R>, query: Query): (records: Iterable<R>) => R[] {
  const members = membersOf(fields);
  const { filter, sort, limit = Number.POSITIVE_INFINITY } = query;
  const holds =
    filter === undefined ? () => true : compileExpression(filter.source, filter.expression, members);
  const key = sort === undefined ? undefined : sortField(members, sort.path);
  return (records) => {
    const found: R[] = [];
    for (const record of records) {
      if (key === undefined && found.length >= limit) break;
      if (holds(record, 0)) found.push(record);
    }
    if (key === undefined) return found;
    const sign = sort?.descending ? -1 : 1;
    const keyed = found.map((record) => ({ record, by: key.read(record, 0) }));
    keyed.sort((a, b) => Number(isNone(a.by)) - Number(isNone(b.by)) || sign * compare(a.by, b.by));
    return keyed.slice(0, limit).map(({ record }) => record);
  };
}

const isNone = (value: Scalar): boolean => Number.isNaN(value);

function membersOf<R>(fields: Fields<R>): Members<R> {
  return {
    has: (path) => Object.hasOwn(fields, path),
    find(path): MemberReader<R> {
      const field = Object.hasOwn(fields, path) ? fields[path] : undefined;
      if (field === undefined)
        throw new PathError(
          0,
          `there is no field ${JSON.stringify(path)}`,
          hintOf(path, Object.keys(fields)),
        );
      const { read, kind } = field;
      return { read: (record) => read(record) ?? Number.NaN, isText: kind === "text", place: undefined };
    },
  };
}

function sortField<R>(members: Members<R>, path: string): MemberReader<R> {
  try {
    return members.find(path);
  } catch (error) {
    if (!(error instanceof PathError)) throw error;
    throw new UsageError(`--sort ${path}: ${error.message}`, { hint: error.hint });
  }
}
