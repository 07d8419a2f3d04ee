/** IEEE floats of 2, 4 and 8 bytes; undefined for the sizes (x87's 10 in 16, 128-bit) that no number holds. */
export function readFloat(bytes: Uint8Array, at: number, size: number): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, size);
  if (size === 8) return view.getFloat64(0, true);
  if (size === 4) return shortest(view.getFloat32(0, true), 9, Math.fround);
  if (size === 2) return shortest(view.getFloat16(0, true), 5, Math.f16round);
  return undefined;
}

/** The number with the fewest digits that is stored as the same float: 0.1 and not 0.10000000149011612. */
function shortest(value: number, maxDigits: number, round: (value: number) => number): number {
  for (let digits = 1; digits < maxDigits; digits++) {
    const candidate = Number(value.toPrecision(digits));
    if (round(candidate) === value) return candidate;
  }
  return value;
}
