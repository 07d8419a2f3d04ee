/** Reads the running kernel's log from /dev/kmsg (Documentation/ABI/testing/dev-kmsg). */
import { SyscallError } from "../errors.ts";
import { type KernelLog, LogBuilder, type LogRecord } from "../kernel-log.ts";
import { EACCES, ENOENT, EPERM, errnoName } from "../uapi/errno.ts";
import type { Sys } from "./sys.ts";

const KMSG = "/dev/kmsg";
/** "6,339,5140900,-,caller=T1": facility and level, sequence number, microseconds, flags, further fields. */
const PREFIX = /^(\d+),(\d+),(\d+),[^,;]*((?:,[^;]*)?);/;
const ESCAPE = /\\x([0-9a-f]{2})/g;

/** Returns all records, the oldest first. Throws `SyscallError` if this user may not read the log. */
export function readKmsg(sys: Sys): KernelLog {
  const messages = sys.readMessages(KMSG);
  if (typeof messages === "number")
    throw new SyscallError("read", KMSG, -messages, errnoName(-messages), hintFor(-messages));
  const log = new LogBuilder();
  for (const message of messages) {
    const record = parseMessage(Buffer.from(message).toString("latin1"));
    if (record === undefined) log.tear("not a record of /dev/kmsg");
    else log.add(record);
  }
  return log.finish();
}

function hintFor(errno: number): string {
  if (errno === EPERM || errno === EACCES)
    return "kernel.dmesg_restrict is on: it needs CAP_SYSLOG, so run as root";
  return errno === ENOENT ? "/dev is not mounted, or this kernel has no log (CONFIG_PRINTK)" : "";
}

/** Returns undefined if the text is not a record. `text` has one character per byte. */
export function parseMessage(text: string): LogRecord | undefined {
  const [prefix, priority, seq, microseconds, rest = ""] = PREFIX.exec(text) ?? [];
  if (prefix === undefined) return undefined;
  const [line = "", ...dictionary] = text.slice(prefix.length).replace(/\n$/, "").split("\n");
  const value = (key: string): Uint8Array =>
    unescapeBytes(dictionary.find((each) => each.startsWith(` ${key}=`))?.slice(key.length + 2) ?? "");
  return {
    seq: BigInt(seq!),
    timeNs: BigInt(microseconds!) * 1000n,
    level: Number(priority) & 7,
    facility: Number(priority) >>> 3,
    caller: /,caller=([TC]\d+)/.exec(rest)?.[1] ?? "",
    text: unescapeBytes(line),
    subsystem: value("SUBSYSTEM"),
    device: value("DEVICE"),
  };
}

/** `msg_add_ext_text` (kernel/printk/printk.c) writes newlines, backslashes and non-ASCII bytes as `\xNN`. */
function unescapeBytes(text: string): Uint8Array {
  const plain = text.replace(ESCAPE, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
  return Buffer.from(plain, "latin1");
}
