/** A terminal for tests: runs tmux and reads its screen as text. */
import { spawn } from "../../live/bpftool.ts";

const WAIT_MS = 20_000;

export class Terminal implements Disposable {
  static #count = 0;
  readonly #socket = `ktstr-${process.pid}-${Terminal.#count++}`;

  /** A shell without any user's configuration. */
  constructor(columns: number, rows: number, env: Readonly<Record<string, string>> = {}) {
    const words = Object.entries(env).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
    this.#tmux(
      "-f",
      "/dev/null",
      "new-session",
      "-d",
      "-x",
      `${columns}`,
      "-y",
      `${rows}`,
      ...words,
      "bash --norc --noprofile",
    );
  }

  #tmux(...words: string[]): string {
    const ran = spawn(["tmux", "-L", this.#socket, ...words]);
    if (ran.status !== 0) throw new Error(`tmux ${words.join(" ")}: ${ran.err}`);
    return ran.out;
  }

  /** Sends keys by tmux's names: "Down", "Enter", "C-c". */
  keys(...keys: readonly string[]): void {
    this.#tmux("send-keys", ...keys);
  }

  type(text: string): void {
    this.#tmux("send-keys", "-l", text);
    this.keys("Enter");
  }

  text(): string {
    return this.#tmux("capture-pane", "-p");
  }

  /** Returns the screen with escape sequences for colors and styles. */
  styled(): string {
    return this.#tmux("capture-pane", "-p", "-e");
  }

  /** Returns whether the alternate screen and the cursor are shown. */
  get modes(): { readonly alternate: boolean; readonly cursor: boolean } {
    const [alternate, cursor] = this.#tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}")
      .trim()
      .split(" ");
    return { alternate: alternate === "1", cursor: cursor === "1" };
  }

  /** Pid of the shell, or of the program that replaced it by `exec`. */
  get pid(): number {
    return Number(this.#tmux("display-message", "-p", "#{pane_pid}"));
  }

  resize(columns: number, rows: number): void {
    this.#tmux("resize-window", "-x", `${columns}`, "-y", `${rows}`);
  }

  /** Waits until the screen matches, and returns it. */
  async until(what: string | RegExp | ((text: string) => boolean)): Promise<string> {
    const holds = typeof what === "function" ? what : (text: string) => new RegExp(what).test(text);
    const end = performance.now() + WAIT_MS;
    for (;;) {
      const text = this.text();
      if (holds(text)) return text;
      if (performance.now() > end) throw new Error(`not on the screen: ${what}\n${text}`);
      await Bun.sleep(50);
    }
  }

  [Symbol.dispose](): void {
    spawn(["tmux", "-L", this.#socket, "kill-server"]);
  }
}
