/**
 * Names and strings as they may be shown: they come from a machine that may be hostile. What is not printable
 * UTF-8 is written as an escape, so that no terminal obeys it.
 */

/** Printable ASCII but the backslash. */
const PLAIN = /^[ -[\]-~]*$/;

const decoder = new TextDecoder("utf-8", { fatal: true });

/**
 * Bytes as printable text: valid UTF-8 stays, control characters (C0, C1, DEL), bidirectional overrides and line
 * separators become `\xNN` or `\u{N}`, and a backslash doubles. Bytes that are not UTF-8 become `\xNN` one by one.
 */
export function printable(bytes: Uint8Array): string {
  const latin1 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  if (PLAIN.test(latin1)) return latin1;
  try {
    return escapeText(decoder.decode(bytes));
  } catch {
    return [...bytes]
      .map((byte) => (byte < 0x80 ? escapeText(String.fromCharCode(byte)) : hexEscape(byte)))
      .join("");
  }
}

/** The same for text that is one already. */
export function escapeText(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\\\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]/g,
    (character) => {
      if (character === "\\") return "\\\\";
      const code = character.charCodeAt(0);
      return code < 0x100 ? hexEscape(code) : `\\u{${code.toString(16)}}`;
    },
  );
}

function hexEscape(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}
