/** Compiles expressions to closures, so that no name is looked up per element. */
import { hintOf, PathError, type Place } from "../btf/place.ts";
import type { Scalar } from "../btf/scalar.ts";
import type { EnumShape } from "../btf/shape.ts";
import { type Comparison, type Expression, FilterError, type Operand } from "./filter-parse.ts";

type Predicate<E> = (element: E, at: number) => boolean;
type Reader<E> = (element: E, at: number) => Scalar;

/** Resolves the member names of an expression. */
export interface Members<E> {
  /** Whether a path begins with a member. Other names may be enumerators. */
  has(path: string): boolean;
  /** Throws `PathError` if there is no such member. */
  find(path: string): MemberReader<E>;
}

export interface MemberReader<E> {
  readonly read: Reader<E>;
  readonly isText: boolean;
  /** Place of a typed member, which determines how enumerators and characters compare with it. */
  readonly place: Place | undefined;
}

interface Context<E> {
  readonly source: string;
  readonly members: Members<E>;
}

/** Throws `FilterError` if a member does not exist, or the operands cannot be compared. */
export function compileExpression<E>(
  source: string,
  expression: Expression,
  members: Members<E>,
): Predicate<E> {
  return compile({ source, members }, expression);
}

function compile<E>(context: Context<E>, expression: Expression): Predicate<E> {
  switch (expression.kind) {
    case "and": {
      const terms = expression.terms.map((term) => compile(context, term));
      return (element, at) => terms.every((term) => term(element, at));
    }
    case "or": {
      const terms = expression.terms.map((term) => compile(context, term));
      return (element, at) => terms.some((term) => term(element, at));
    }
    case "not": {
      const term = compile(context, expression.term);
      return (element, at) => !term(element, at);
    }
    case "holds": {
      const { read } = compileOperand(context, expression.operand, undefined);
      return (element, at) => {
        const value = read(element, at);
        return value !== 0 && value !== "" && !Number.isNaN(value);
      };
    }
    case "compare":
      return compileComparison(context, expression.operator, expression.left, expression.right);
  }
}

function compileComparison<E>(
  context: Context<E>,
  operator: Comparison,
  left: Operand,
  right: Operand,
): Predicate<E> {
  // Text, or a name that is not a member, may be an enumerator or a character, so the other operand is compiled first.
  const isRightFirst = left.kind === "text" || (left.kind === "member" && !context.members.has(left.path));
  const first = compileOperand(context, isRightFirst ? right : left, undefined);
  const second = compileOperand(context, isRightFirst ? left : right, first.place);
  const [a, b] = isRightFirst ? [second, first] : [first, second];
  if (a.isText !== b.isText) {
    const text = a.isText ? left : right;
    const number = a.isText ? right : left;
    throw new FilterError(
      context.source,
      number.at,
      `text can only be compared with text: ${operandText(text)} is text, ${operandText(number)} is not`,
    );
  }
  return comparing(operator, a.read, b.read);
}

/** Compares integers exactly: they are numbers up to 53 bits, else bigints, and `<` compares the two by value. */
function comparing<E>(operator: Comparison, a: Reader<E>, b: Reader<E>): Predicate<E> {
  switch (operator) {
    case "==":
      return (element, at) => a(element, at) === b(element, at);
    case "!=":
      return (element, at) => a(element, at) !== b(element, at);
    case "<":
      return (element, at) => a(element, at) < b(element, at);
    case "<=":
      return (element, at) => a(element, at) <= b(element, at);
    case ">":
      return (element, at) => a(element, at) > b(element, at);
    case ">=":
      return (element, at) => a(element, at) >= b(element, at);
  }
}

/** `beside`: place of the other operand, if that is a member. */
function compileOperand<E>(
  context: Context<E>,
  operand: Operand,
  beside: Place | undefined,
): MemberReader<E> {
  if (operand.kind === "number") return constant(operand.value);
  if (operand.kind === "text") {
    if (beside?.shape.kind === "enum")
      return constant(enumerator(context, beside.shape, operand.value, operand.at));
    return constant(textConstant(operand.value, beside));
  }
  if (beside?.shape.kind === "enum" && !context.members.has(operand.path))
    return constant(enumerator(context, beside.shape, operand.path, operand.at));
  try {
    return context.members.find(operand.path);
  } catch (error) {
    if (!(error instanceof PathError)) throw error;
    throw new FilterError(context.source, operand.at + error.at, error.message, error.hint);
  }
}

function constant<E>(value: Scalar): MemberReader<E> {
  return { read: () => value, isText: typeof value === "string", place: undefined };
}

/** Converts a character constant such as 'z' to its number if the other operand is a char. */
function textConstant(value: string, beside: Place | undefined): Scalar {
  const isChar = beside?.shape.kind === "int" && beside.shape.char && beside.bitSize === 0;
  return isChar && value.length === 1 ? value.charCodeAt(0) : value;
}

function enumerator<E>(context: Context<E>, shape: EnumShape, name: string, at: number): number | bigint {
  for (const [value, known] of shape.names) if (known === name) return value;
  const hint = hintOf(name, [...shape.names.values()]);
  const problem = `there is neither a member nor an enumerator ${JSON.stringify(name)}`;
  throw new FilterError(context.source, at, problem, hint);
}

function operandText(operand: Operand): string {
  if (operand.kind === "member") return operand.path;
  return operand.kind === "number" ? String(operand.value) : JSON.stringify(operand.value);
}
