/** Sizes, times and counts as text. JSON has raw numbers. */

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** Formats a size: exactly below 10 KiB ("4096 B"), else with a unit ("1.2 MiB"). */
export function sizeText(bytes: number): string {
  if (bytes < 10_240) return `${bytes} B`;
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < SIZES.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${SIZES[unit]}`;
}

/** Formats the sum of the known sizes, or returns a phrase if no size is known. */
export function totalSizeText(sizes: readonly (number | undefined)[]): string {
  const known = sizes.filter((size) => size !== undefined);
  if (known.length === 0 && sizes.length > 0) return "memory not known";
  return sizeText(known.reduce((sum, size) => sum + size, 0));
}

const TIMES: readonly (readonly [number, string])[] = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "us"],
  [1, "ns"],
];

/** Formats nanoseconds with four digits, or as whole units from 1000 of them: "1.234 ms", "123457 s". */
export function timeText(ns: number): string {
  const [scale, unit] = TIMES.find(([from]) => ns >= from) ?? [1, "ns"];
  const value = ns / scale;
  return `${value >= 1000 ? Math.round(value) : Number.isInteger(value) ? value : value.toPrecision(4)} ${unit}`;
}

/** Formats a count with separated thousands: "12,345". */
export function countText(count: number | bigint): string {
  // toLocaleString takes 9 ms at its first call.
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Formats a number of calls: "1 call", "12,345 calls". */
export function callsText(count: bigint): string {
  return `${countText(count)} call${count === 1n ? "" : "s"}`;
}
