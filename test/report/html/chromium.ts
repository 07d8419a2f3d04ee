/** Opens a page in a headless Chromium, driven by the DevTools protocol over its socket, and returns its messages. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Path of Debian's Chromium; null if it is not installed. */
export const CHROMIUM: string | null = Bun.which("chromium");

export interface View {
  readonly width: number;
  readonly dark: boolean;
  readonly script: boolean;
}

export interface OpenedPage {
  /** Messages of the console, uncaught errors and violations of the page's policy. */
  readonly said: readonly string[];
  /** Requests other than for the page itself. */
  readonly requests: readonly string[];
  /** Milliseconds from the navigation to the first paint. */
  readonly firstPaintMs: number;
  /** Evaluates an expression in the page and awaits it if it is a promise. */
  evaluate(expression: string): Promise<unknown>;
  /** Takes a PNG of the window. */
  screenshot(height: number): Promise<Uint8Array>;
}

type Message = {
  readonly id?: number;
  readonly method?: string;
  readonly sessionId?: string;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
};
type Params = { readonly [key: string]: unknown };

export class Chromium {
  readonly #process: Bun.Subprocess;
  readonly #folder: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (message: Message) => void>();
  readonly #listeners = new Map<string, (method: string, params: Params) => void>();
  #last = 0;

  static async start(): Promise<Chromium> {
    const folder = mkdtempSync(join(tmpdir(), "ktstr-chromium-"));
    const browser = Bun.spawn(
      [
        CHROMIUM ?? "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-extensions",
        "--remote-debugging-port=0",
        `--user-data-dir=${folder}`,
        "about:blank",
      ],
      { stdout: "ignore", stderr: "pipe", env: { ...process.env, HOME: folder } },
    );
    const address = await listening(browser.stderr);
    const socket = new WebSocket(address);
    await new Promise((done, failed) => {
      socket.onopen = done;
      socket.onerror = failed;
    });
    return new Chromium(browser, folder, socket);
  }

  private constructor(browser: Bun.Subprocess, folder: string, socket: WebSocket) {
    this.#process = browser;
    this.#folder = folder;
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(String(data)) as Message;
      if (message.id !== undefined) this.#waiting.get(message.id)?.(message);
      else
        this.#listeners.get(message.sessionId ?? "")?.(
          message.method ?? "",
          (message.params ?? {}) as Params,
        );
    };
  }

  async open(url: string, { width, dark, script }: View): Promise<OpenedPage> {
    const { targetId } = await this.#call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.#call("Target.attachToTarget", { targetId, flatten: true });
    const call = (method: string, params: Params = {}): Promise<Params> =>
      this.#call(method, params, String(sessionId));
    const said: string[] = [];
    const requests: string[] = [];
    let loaded: () => void = () => {};
    this.#listeners.set(String(sessionId), (method, params) => {
      if (method === "Log.entryAdded") said.push((params["entry"] as { text: string }).text);
      if (method === "Runtime.consoleAPICalled") said.push(JSON.stringify(params["args"]));
      if (method === "Runtime.exceptionThrown") said.push(JSON.stringify(params["exceptionDetails"]));
      if (method === "Page.javascriptDialogOpening") said.push(`dialog: ${String(params["message"])}`);
      if (method === "Network.requestWillBeSent") requests.push((params["request"] as { url: string }).url);
      if (method === "Page.loadEventFired") loaded();
    });
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await call(`${domain}.enable`);
    await call("Emulation.setDeviceMetricsOverride", {
      width,
      height: 900,
      deviceScaleFactor: 1,
      mobile: false,
    });
    await call("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }],
    });
    await call("Emulation.setScriptExecutionDisabled", { value: !script });
    const done = new Promise<void>((resolve) => {
      loaded = resolve;
    });
    await call("Page.navigate", { url });
    await done;
    const evaluate = async (expression: string): Promise<unknown> => {
      const { result, exceptionDetails } = await call("Runtime.evaluate", {
        expression,
        awaitPromise: true,
        returnByValue: true,
      });
      if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
      return (result as { value: unknown }).value;
    };
    const paint = await firstPaint(evaluate);
    return {
      said,
      requests: requests.filter((each) => each !== url.replace(/#.*/, "")),
      firstPaintMs: paint,
      evaluate,
      async screenshot(height) {
        await call("Emulation.setDeviceMetricsOverride", {
          width,
          height,
          deviceScaleFactor: 1,
          mobile: false,
        });
        const { data } = await call("Page.captureScreenshot", { format: "png" });
        return Buffer.from(String(data), "base64");
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    this.#process.kill();
    await this.#process.exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #call(method: string, params: Params, sessionId?: string): Promise<Params> {
    const id = ++this.#last;
    const answer = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    const { result, error } = await answer;
    this.#waiting.delete(id);
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result as Params;
  }
}

const PAINT_POLLS = 100;

/** Polls for the first paint, because without scripts the page cannot report it. Returns NaN if nothing was painted for 5 s. */
async function firstPaint(evaluate: (expression: string) => Promise<unknown>): Promise<number> {
  for (let poll = 0; poll < PAINT_POLLS; poll++) {
    const time = await evaluate('performance.getEntriesByName("first-paint")[0]?.startTime');
    if (typeof time === "number") return time;
    await Bun.sleep(50);
  }
  return Number.NaN;
}

async function listening(stderr: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  const reader = stderr.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`chromium did not start: ${text}`);
    text += decoder.decode(value, { stream: true });
    const [, address] = /DevTools listening on (ws:\S+)/.exec(text) ?? [];
    if (address === undefined) continue;
    reader.releaseLock();
    return address;
  }
}
