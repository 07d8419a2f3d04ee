/**
 * Names and strings as they may be shown: they come from a machine that may be hostile. What is not printable
 * UTF-8 is written as an escape, so that no terminal obeys it.
 */

/** Printable ASCII but the backslash. */
const PLAIN = /^[ -[\]-~]*$/;
/** The same with the backslash, which stands in source code for itself. */
const PLAIN_SOURCE = /^[\t -~]*$/;

// A byte order mark is kept: dropped, it would make two names one.
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** Bytes as text that is not printable yet; what is no UTF-8 becomes U+FFFD. */
export function utf8(bytes: Uint8Array): string {
  return lenient.decode(bytes);
}

/**
 * Bytes as printable text: valid UTF-8 stays, control characters (C0, C1, DEL), bidirectional overrides and line
 * separators become `\xNN` or `\u{N}`, and a backslash doubles. Bytes that are not UTF-8 become `\xNN` one by one.
 */
export function printable(bytes: Uint8Array): string {
  const text = utf8(bytes);
  if (PLAIN.test(text)) return text;
  try {
    return escapeText(strict.decode(bytes));
  } catch {
    return [...bytes]
      .map((byte) => (byte < 0x80 ? escapeText(String.fromCharCode(byte)) : hexEscape(byte)))
      .join("");
  }
}

/** The same for text that is one already. */
export function escapeText(text: string): string {
  return PLAIN.test(text) ? text : escapeSentence(text.replaceAll("\\", "\\\\"));
}

/** The same for a sentence in which names are escaped already: its backslashes stay single. */
export function escapeSentence(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]/g,
    (character) => {
      const code = character.charCodeAt(0);
      return code < 0x100 ? hexEscape(code) : `\\u{${code.toString(16)}}`;
    },
  );
}

/** The same for a line of source code, in which a tab is a tab. */
export function escapeSource(text: string): string {
  if (PLAIN_SOURCE.test(text)) return text;
  return text.split("\t").map(escapeSentence).join("\t");
}

function hexEscape(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}
