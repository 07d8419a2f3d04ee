/**
 * What a shell sources. Each hands the line to `ktstr completions words`, so that no script knows a command or an
 * option, and none grows old.
 */
import bash from "./shells/bash.txt" with { type: "text" };
import fish from "./shells/fish.txt" with { type: "text" };
import zsh from "./shells/zsh.txt" with { type: "text" };

export type Shell = "bash" | "zsh" | "fish";

export const SCRIPTS: Readonly<Record<Shell, string>> = { bash, zsh, fish };
