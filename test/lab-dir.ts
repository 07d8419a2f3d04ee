/** Returns the lab's cache folder: `KTSTR_LAB_DIR`, or `ktstr-lab` in the user's cache directory. */
import { homedir } from "node:os";
import { join } from "node:path";

export function labDir(): string {
  const named = process.env["KTSTR_LAB_DIR"];
  if (named !== undefined && named !== "") return named;
  const cache = process.env["XDG_CACHE_HOME"];
  return join(cache === undefined || cache === "" ? join(homedir(), ".cache") : cache, "ktstr-lab");
}

/** Returns the folder with the newest bpftool that `bun run lab bpftool` built for this machine. */
export function labBpftoolDir(): string {
  return join(labDir(), "bpftool", process.arch === "arm64" ? "arm64" : "amd64");
}
