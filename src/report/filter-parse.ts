/**
 * The expressions of `--filter`:
 *
 *     expression  =  and { "||" and }
 *     and         =  unary { "&&" unary }
 *     unary       =  "!" unary  |  "(" expression ")"  |  operand [ ("==" | "!=" | "<" | "<=" | ">" | ">=") operand ]
 *     operand     =  member  |  number  |  text  |  true  |  false  |  NULL
 *     member      =  ( "key" | "value" | name ) { "." name | "[" index "]" }
 *     number      =  decimal or 0x hexadecimal, with optional sign and fraction
 *     text        =  "..." or '...', with \n \t \r \0 \\ \" \' \xNN
 *
 * A name that is not a member is an enumerator of the other operand's type. A single operand is true if it is not 0 (for
 * text: not empty). There is no arithmetic, no call and no assignment.
 */
import { UsageError } from "../errors.ts";

export type Comparison = "==" | "!=" | "<" | "<=" | ">" | ">=";

/** `at`: offset in the expression's text, for messages. */
export type Operand =
  | { readonly kind: "member"; readonly path: string; readonly at: number }
  | { readonly kind: "number"; readonly value: number | bigint; readonly at: number }
  | { readonly kind: "text"; readonly value: string; readonly at: number };

export type Expression =
  | { readonly kind: "and" | "or"; readonly terms: readonly Expression[] }
  | { readonly kind: "not"; readonly term: Expression }
  | { readonly kind: "holds"; readonly operand: Operand }
  | {
      readonly kind: "compare";
      readonly operator: Comparison;
      readonly left: Operand;
      readonly right: Operand;
    };

/** An error at one place of an expression. Exit status 2. */
export class FilterError extends UsageError {
  constructor(source: string, at: number, problem: string, hint = "") {
    const near = source.slice(at, at + 24);
    const where = near === "" ? "at its end" : `at column ${at + 1} (${JSON.stringify(near)})`;
    super(`--filter: ${where}: ${problem}`, { hint });
  }
}

const MAX_LENGTH = 4096;
const MAX_DEPTH = 64;

/** Parses the text of `--filter`. Throws `FilterError`. */
export function parseFilter(source: string): Expression {
  if (source.length > MAX_LENGTH)
    throw new FilterError(source, MAX_LENGTH, `an expression has at most ${MAX_LENGTH} characters`);
  const parser = new Parser(source);
  const expression = parser.expression();
  parser.end();
  return expression;
}

interface Token {
  readonly kind: "operator" | "name" | "number" | "text" | "end";
  readonly text: string;
  readonly at: number;
}

const SPACE = /\s*/y;
const OPERATOR = /&&|\|\||==|!=|<=|>=|<|>|!|\(|\)/y;
const NUMBER = /-?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?)(?![\w.])/y;
const NAME = /[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*|\[\s*\d+\s*\])*/y;
const TEXT = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/y;
const COMPARISONS: readonly string[] = ["==", "!=", "<", "<=", ">", ">="];

class Parser {
  readonly #source: string;
  #token: Token;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
    this.#token = this.#read(0);
  }

  expression(): Expression {
    return this.#chain("or", "||", () => this.#chain("and", "&&", () => this.#unary()));
  }

  end(): void {
    if (this.#token.kind !== "end")
      throw this.#error("expected the end of the expression", syntaxHint(this.#token));
  }

  #chain(kind: "and" | "or", operator: string, next: () => Expression): Expression {
    const terms = [next()];
    while (this.#take(operator)) terms.push(next());
    const [only] = terms;
    return terms.length === 1 && only !== undefined ? only : { kind, terms };
  }

  #unary(): Expression {
    if (++this.#depth > MAX_DEPTH) throw this.#error(`parentheses and ! nest deeper than ${MAX_DEPTH}`);
    const expression = this.#term();
    this.#depth--;
    return expression;
  }

  #term(): Expression {
    if (this.#take("!")) return { kind: "not", term: this.#unary() };
    const open = this.#token.at;
    if (this.#take("(")) {
      const inner = this.expression();
      if (!this.#take(")")) throw this.#error(`the ( at column ${open + 1} is not closed`);
      return inner;
    }
    const left = this.#operand();
    const operator = this.#token.text;
    if (this.#token.kind !== "operator" || !COMPARISONS.includes(operator))
      return { kind: "holds", operand: left };
    this.#advance();
    return { kind: "compare", operator: operator as Comparison, left, right: this.#operand() };
  }

  #operand(): Operand {
    const { kind, text, at } = this.#token;
    switch (kind) {
      case "name":
        this.#advance();
        if (text === "true" || text === "false")
          return { kind: "number", value: text === "true" ? 1 : 0, at };
        if (text === "NULL") return { kind: "number", value: 0, at };
        return { kind: "member", path: text.replace(/\s/g, ""), at };
      case "number":
        this.#advance();
        return { kind: "number", value: exact(text), at };
      case "text":
        this.#advance();
        return { kind: "text", value: unquote(this.#source, text, at), at };
      default:
        throw this.#error("expected a member, a number or text", syntaxHint(this.#token));
    }
  }

  #take(operator: string): boolean {
    if (this.#token.kind !== "operator" || this.#token.text !== operator) return false;
    this.#advance();
    return true;
  }

  #advance(): void {
    this.#token = this.#read(this.#token.at + this.#token.text.length);
  }

  #read(from: number): Token {
    const source = this.#source;
    const at = from + (match(SPACE, source, from)?.length ?? 0);
    if (at >= source.length) return { kind: "end", text: "", at };
    for (const [kind, pattern] of [
      ["number", NUMBER],
      ["operator", OPERATOR],
      ["name", NAME],
      ["text", TEXT],
    ] as const) {
      const text = match(pattern, source, at);
      if (text !== undefined) return { kind, text, at };
    }
    throw new FilterError(source, at, "unexpected character", syntaxHint({ text: source.charAt(at) }));
  }

  #error(problem: string, hint = ""): FilterError {
    return new FilterError(this.#source, this.#token.at, problem, hint);
  }
}

function match(pattern: RegExp, source: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(source)?.[0];
}

/** Returns a hint for an operator of another language, or for an open quote; "" for other tokens. */
function syntaxHint({ text }: Pick<Token, "text">): string {
  if (text === "=") return "equality is ==";
  if (text === "&" || text === "|") return "and is &&, or is ||";
  if (text === '"' || text === "'") return "the quote is not closed";
  return "";
}

function exact(text: string): number | bigint {
  if (text.includes(".")) return Number(text);
  const digits = text.replace("-", "");
  const value = text.startsWith("-") ? -BigInt(digits) : BigInt(digits);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", "0": "\0" };

function unquote(source: string, quoted: string, at: number): string {
  return quoted.slice(1, -1).replace(/\\(x[0-9a-fA-F]{2}|.)/gs, (whole, sign: string, offset: number) => {
    if (sign.length === 3) return String.fromCharCode(Number.parseInt(sign.slice(1), 16));
    const plain = ESCAPES[sign] ?? (/["'\\]/.test(sign) ? sign : undefined);
    if (plain === undefined) throw new FilterError(source, at + 1 + offset, `there is no escape ${whole}`);
    return plain;
  });
}
