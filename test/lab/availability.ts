/**
 * Checks whether this machine can run the lab. If it cannot, tests that need the lab are skipped with the
 * reason, or fail if KTSTR_REQUIRE_LAB=1.
 */
import { fetchKernel } from "./kernels.ts";
import { LabError } from "./process.ts";
import { qemuFor } from "./qemu.ts";

const required = process.env["KTSTR_REQUIRE_LAB"] === "1";

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

async function missing(): Promise<string> {
  const absent = tools.filter((name) => Bun.which(name) === null);
  if (absent.length > 0) return `not installed: ${absent.join(", ")}`;
  try {
    await fetchKernel("sid");
    return "";
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    return `${error.message}; ${error.hint}`;
  }
}

async function answer(): Promise<string> {
  const asked = process.env["KTSTR_LAB"];
  const wanted = required || asked === "1" || asked === "all";
  const why = wanted ? await missing() : "guests boot under KTSTR_LAB=1 (CI's rows) or KTSTR_LAB=all";
  if (why !== "" && required) throw new Error(`KTSTR_REQUIRE_LAB=1, but ${why}`);
  if (why !== "") console.warn(`skipped: ${why}`);
  return why;
}

let asked: Promise<string> | undefined;

/**
 * Returns why guests cannot be booted here, or "" if they can. Booting takes minutes, so it must be requested by
 * KTSTR_LAB=1 or all, or by KTSTR_REQUIRE_LAB=1, which makes a missing tool or network a failure.
 */
export function labSkipReason(): Promise<string> {
  asked ??= answer();
  return asked;
}
