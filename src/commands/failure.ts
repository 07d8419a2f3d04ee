/** Formats errors: the same sentence in text and in JSON. */
import { KtstrError } from "../errors.ts";
import { stringify } from "../report/json.ts";

/** Returns the message, followed by the hint. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof KtstrError)) return "internal error, please report it";
  const { message, hint } = error;
  return hint === "" ? message : `${message}. ${hint.charAt(0).toUpperCase()}${hint.slice(1)}`;
}

/** Returns bpftool's JSON object of an error (tools/bpf/bpftool/common.c, p_err). */
export function errorJson(sentence: string, pretty: boolean): string {
  return stringify({ error: sentence }, pretty ? "  " : "");
}
