/** Programs on perf events as `bpftool perf show` prints them (tools/bpf/bpftool/perf.c). */
import type { PerfAttachment } from "../attachments.ts";
import { printable, utf8 } from "../text.ts";
import type { Json } from "./json.ts";

export function perfJson({ pid, fd, progId, kind, name, offset, address }: PerfAttachment): Json {
  const head = { pid, fd, prog_id: progId, fd_type: kind };
  switch (kind) {
    case "raw_tracepoint":
    case "tracepoint":
      return { ...head, tracepoint: utf8(name) };
    case "kprobe":
    case "kretprobe":
      return name.length > 0 ? { ...head, func: utf8(name), offset } : { ...head, addr: address };
    default:
      return { ...head, filename: utf8(name), offset };
  }
}

export function perfText({ pid, fd, progId, kind, name, offset, address }: PerfAttachment): string {
  const head = `pid ${pid}  fd ${fd}: prog_id ${progId}  ${kind}  `;
  switch (kind) {
    case "raw_tracepoint":
    case "tracepoint":
      return head + printable(name);
    case "kprobe":
    case "kretprobe":
      return head + (name.length > 0 ? `func ${printable(name)}  offset ${offset}` : `addr ${address}`);
    default:
      return `${head}filename ${printable(name)}  offset ${offset}`;
  }
}
