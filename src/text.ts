/**
 * Escapes names and strings from an untrusted machine. Everything except printable UTF-8 is escaped, so the text cannot send
 * control sequences to the terminal.
 */

/** Printable ASCII without the backslash. */
const PLAIN = /^[ -[\]-~]*$/;
/** Printable ASCII including tabs and the backslash, which is not escaped in source code. */
const PLAIN_SOURCE = /^[\t -~]*$/;

// Byte order marks are kept: without them, two different names could become equal.
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** Decodes bytes without escaping. Bytes that are not UTF-8 become U+FFFD. */
export function utf8(bytes: Uint8Array): string {
  return lenient.decode(bytes);
}

/**
 * Returns bytes as printable text. Control characters (C0, C1, DEL), bidirectional overrides and line separators become
 * `\xNN` or `\u{N}`, and a backslash is doubled. If the bytes are not valid UTF-8, each byte above ASCII becomes `\xNN`.
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

/** Like `printable`, for a string. */
export function escapeText(text: string): string {
  return PLAIN.test(text) ? text : escapeSentence(text.replaceAll("\\", "\\\\"));
}

/** Escapes a sentence that contains escaped names: backslashes are not doubled. */
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

/** Escapes a line of source code: tabs and backslashes are kept. */
export function escapeSource(text: string): string {
  if (PLAIN_SOURCE.test(text)) return text;
  return text.split("\t").map(escapeSentence).join("\t");
}

function hexEscape(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}
