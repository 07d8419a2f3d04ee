/**
 * Finds the process of a guest by the name in QEMU's `-name` argument or Firecracker's `--id`. libvirt passes the domain's
 * name in `-name`.
 */
import { KtstrError } from "../../errors.ts";
import { escapeText } from "../../text.ts";

/** Parses `--id web` of Firecracker, `-name web` and `-name guest=web,debug-threads=on` of QEMU (its manual; the key is optional). */
function nameIn(words: readonly string[]): string | undefined {
  if (/(?:^|\/)firecracker[^/]*$/.test(words[0] ?? "")) {
    const id = words.indexOf("--id");
    return id < 1 ? undefined : words[id + 1];
  }
  const at = words.indexOf("-name");
  if (at < 1 || !/(?:^|\/)(?:qemu[^/]*|kvm)$/.test(words[0] ?? "")) return undefined;
  const parts = (words[at + 1] ?? "").split(",");
  return parts.find((part) => part.startsWith("guest="))?.slice("guest=".length) ?? parts[0];
}

/** Returns the process id. Throws `KtstrError` if no process has the name, or several do. */
export function findVmByName(name: string): number {
  const { readdirSync, readFileSync } = process.getBuiltinModule("node:fs");
  const found = readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return nameIn(readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")) === name;
    } catch {
      return false; // the process has exited
    }
  });
  const [pid] = found;
  if (pid !== undefined && found.length === 1) return Number(pid);
  throw new KtstrError(
    found.length === 0
      ? `--vm ${escapeText(name)}: no QEMU or Firecracker process has that name`
      : `--vm ${escapeText(name)}: the processes ${found.join(", ")} have that name`,
    { hint: "Give its process id (`pgrep -a qemu`, `pgrep -a firecracker`) or the path of its QMP socket." },
  );
}
