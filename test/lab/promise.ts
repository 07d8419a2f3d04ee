/** Whether this machine has the lab: tests that need it skip with the reason, or fail where it was promised. */
import { qemuFor } from "./qemu.ts";

const required = process.env["KTSTR_REQUIRE_LAB"] === "1";

/**
 * Why guests cannot be booted here; "" where they can. Booting takes minutes, so that it is asked for (KTSTR_LAB=1 or all, or
 * KTSTR_REQUIRE_LAB=1, under which a missing tool is a failure). A missing network shows when a package is fetched.
 */
export function whyNoLab(): string {
  const asked = process.env["KTSTR_LAB"];
  if (!required && asked !== "1" && asked !== "all")
    return skipped("guests boot under KTSTR_LAB=1 (CI's rows) or all");
  const tools = [
    qemuFor.amd64,
    "clang-19",
    "apt-get",
    "apt-cache",
    "dpkg-deb",
    "flock",
    "setpriv",
    "xz",
    "tar",
  ];
  const missing = tools.filter((name) => Bun.which(name) === null);
  if (missing.length === 0) return "";
  const why = `not installed: ${missing.join(", ")}`;
  if (required) throw new Error(`KTSTR_REQUIRE_LAB=1, but ${why}`);
  return skipped(why);
}

function skipped(why: string): string {
  console.warn(`skipped: ${why}`);
  return why;
}
