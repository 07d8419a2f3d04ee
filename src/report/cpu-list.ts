/** Formats CPU numbers as the kernel's `%*pbl` does: "0-3,8". `cpus` must be in ascending order. */
export function cpuList(cpus: readonly number[]): string {
  const ranges: string[] = [];
  for (let at = 0; at < cpus.length; at++) {
    const first = cpus[at];
    while (cpus[at + 1] === (cpus[at] ?? 0) + 1) at++;
    ranges.push(first === cpus[at] ? `${first}` : `${first}-${cpus[at]}`);
  }
  return ranges.join(",");
}
