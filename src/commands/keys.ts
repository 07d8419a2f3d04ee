/** Decodes the bytes that a terminal sends in raw mode to key names: "up", "enter", "ctrl-c", or the character. */

const SEQUENCES: Readonly<Record<string, string>> = {
  "[A": "up",
  "[B": "down",
  "[C": "right",
  "[D": "left",
  OA: "up",
  OB: "down",
  OC: "right",
  OD: "left",
  "[5~": "pageup",
  "[6~": "pagedown",
  "[H": "home",
  "[F": "end",
  "[1~": "home",
  "[4~": "end",
  "[7~": "home",
  "[8~": "end",
  OH: "home",
  OF: "end",
};

const CONTROLS: Readonly<Record<string, string>> = {
  "\r": "enter",
  "\n": "enter",
  "\u0003": "ctrl-c",
  "\u000c": "ctrl-l",
  "\u001a": "ctrl-z",
  "\u007f": "backspace",
  "\b": "backspace",
};

/** Returns the keys of one read. A lone escape is the escape key; unknown sequences are dropped. */
export function keysIn(text: string): string[] {
  const keys: string[] = [];
  const characters = /\u001b(\[[0-9;?]*[ -/]*[@-~]|O[@-~])?|[^\u001b]/gu;
  for (const [all, sequence] of text.matchAll(characters)) {
    if (sequence !== undefined) {
      const key = SEQUENCES[sequence];
      if (key !== undefined) keys.push(key);
    } else if (all === "\u001b") keys.push("escape");
    else if (CONTROLS[all] !== undefined) keys.push(CONTROLS[all]);
    else if (all >= " ") keys.push(all);
  }
  return keys;
}
