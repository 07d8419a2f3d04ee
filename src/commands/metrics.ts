import pkg from "../../package.json" with { type: "json" };
import { KtstrError, UsageError } from "../errors.ts";
import { log } from "../log.ts";
import { metricsOf } from "../report/metrics.ts";
import { CONTENT_TYPES, formatFor, type MetricsFormat, metricsText } from "../report/metrics-text.ts";
import { sizeText } from "../report/units.ts";
import type { RoundSource } from "../round.ts";
import { escapeText } from "../text.ts";
import { type Command, type Context, command } from "./command.ts";
import { textOption } from "./option-values.ts";
import { Ending, openRounds } from "./rounds.ts";
import { writeWholeFile } from "./whole-file.ts";

const metrics: Command = command({
  name: "ktstr metrics",
  description: "Serve costs of programs, maps and events of sched_ext to Prometheus",
  options: ["listen", "once", "output"],
  examples: [
    "ktstr metrics --listen 127.0.0.1:9435   # until Ctrl-C; then curl http://127.0.0.1:9435/metrics",
    "ktstr metrics --once -o /var/lib/prometheus/node-exporter/ktstr.prom",
  ],
  async start(context) {
    const { options, words } = context;
    if (words.length > 0) throw new UsageError(`metrics: unexpected arguments: ${words.join(" ")}`);
    if (options.json)
      throw new UsageError("metrics: the output is always Prometheus text", { hint: "omit -j" });
    const listen = textOption(options, "listen");
    const path = textOption(options, "output");
    const isOnce = options.own["once"] === true;
    if (isOnce === (listen !== undefined) || (path !== undefined && !isOnce))
      throw new UsageError("metrics: --listen ADDRESS:PORT, or --once [-o FILE]");
    if (listen !== undefined) return await serve(context, placeOf(listen));
    using source = await openRounds(options, []);
    const text = new Readings(source).text("prometheus");
    if (path === undefined || path === "-") context.out.text(text);
    else {
      // The file is read by another user, the collector.
      writeWholeFile(path, [Buffer.from(text)], true, 0o644);
      context.out.line(`${escapeText(path)}: ${sizeText(Buffer.byteLength(text))}`);
    }
    return 0;
  },
});

export default metrics;

interface Place {
  readonly hostname: string;
  readonly port: number;
}

const LOOPBACK = "127.0.0.1";
const MAX_PORT = 65_535;

/** "9435" and ":9435" are on the loopback interface; "[::1]:9435" is IPv6. Throws `UsageError`. */
export function placeOf(text: string): Place {
  const [, bracketed, plain = "", digits = ""] =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === "" || port > MAX_PORT)
    throw new UsageError(`--listen ${JSON.stringify(text)}: neither ADDRESS:PORT nor PORT`, {
      hint: "127.0.0.1:9435 is reachable from this machine only, 0.0.0.0:9435 from everywhere; [::1]:9435 is IPv6",
    });
  return { hostname: bracketed ?? (plain === "" ? LOOPBACK : plain), port };
}

/** Time for which a reading is also returned to other clients. */
const SHARED_MS = 200;

/** Readings for clients. Each is one synchronous call, so readings do not overlap. */
class Readings {
  readonly #source: RoundSource;
  #texts: Partial<Record<MetricsFormat, string>> = {};
  #until = 0;

  constructor(source: RoundSource) {
    this.#source = source;
  }

  /** Throws `KtstrError` if the kernel cannot be read. */
  text(format: MetricsFormat): string {
    if (performance.now() >= this.#until) this.#read();
    return this.#texts[format] ?? "";
  }

  #read(): void {
    const started = performance.now();
    const round = this.#source.round();
    const ended = performance.now();
    const { facts, warnings } = this.#source;
    const families = metricsOf(facts, round, pkg.version, ended - started, warnings.length);
    this.#texts = {
      prometheus: metricsText(families, "prometheus"),
      openmetrics: metricsText(families, "openmetrics"),
    };
    this.#until = ended + SHARED_MS;
  }
}

/** Time limit in seconds and size limit in bytes of a request. */
const IDLE_SECONDS = 10;
const MAX_REQUEST_BYTES = 4096;
/** Time in which a scrape may finish after a signal. */
const STOP_MS = 2000;
const HOUR_MS = 3_600_000;

async function serve({ options, warn }: Context, { hostname, port }: Place): Promise<0> {
  using ending = new Ending();
  using source = await openRounds(options, []);
  const readings = new Readings(source);
  let shownWarnings = 0;
  const server = (() => {
    try {
      return Bun.serve({
        hostname,
        port,
        idleTimeout: IDLE_SECONDS,
        maxRequestBodySize: MAX_REQUEST_BYTES,
        development: false,
        // Outside of development mode Bun shares the port with other processes by default.
        reusePort: false,
        fetch: (request) => {
          const answer = answerTo(request, readings);
          for (const sentence of source.warnings.slice(shownWarnings)) warn(sentence);
          shownWarnings = source.warnings.length;
          return answer;
        },
      });
    } catch (error) {
      const { code = "", message } = error as NodeJS.ErrnoException;
      throw new KtstrError(`listen on ${hostname}:${port}: ${code === "" ? message : code}`, {
        hint: code === "EADDRINUSE" ? "Another program listens there: give another port." : "",
      });
    }
  })();
  log.info(`metrics are at ${server.url.href}metrics, until Ctrl-C`);
  while (await ending.until(performance.now() + HOUR_MS));
  await Promise.race([server.stop(), Bun.sleep(STOP_MS)]);
  return 0;
}

const PLAIN = { "content-type": "text/plain; charset=utf-8" };

function answerTo(request: Request, readings: Readings): Response {
  if (new URL(request.url).pathname !== "/metrics")
    return new Response("Metrics are at /metrics.\n", { status: 404, headers: PLAIN });
  if (request.method !== "GET" && request.method !== "HEAD")
    return new Response("GET /metrics\n", { status: 405, headers: { ...PLAIN, allow: "GET, HEAD" } });
  const format = formatFor(request.headers.get("accept"));
  try {
    return new Response(readings.text(format), { headers: { "content-type": CONTENT_TYPES[format] } });
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    log.error(error.message);
    return new Response(`${escapeText(error.message)}\n`, { status: 503, headers: PLAIN });
  }
}
