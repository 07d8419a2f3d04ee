/**
 * Completion scripts of the shells. Each passes the line to `ktstr completions words`, so the scripts contain no commands or
 * options.
 */
import bash from "./shells/bash.txt" with { type: "text" };
import fish from "./shells/fish.txt" with { type: "text" };
import zsh from "./shells/zsh.txt" with { type: "text" };

export type Shell = "bash" | "zsh" | "fish";

export const SCRIPTS: Readonly<Record<Shell, string>> = { bash, zsh, fish };
