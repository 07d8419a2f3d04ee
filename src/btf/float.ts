/** Reads an IEEE float of 2, 4 or 8 bytes. Returns undefined for other sizes (x87's 10 bytes in 16, 128-bit floats). */
export function readFloat(bytes: Uint8Array, at: number, size: number): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, size);
  if (size === 8) return view.getFloat64(0, true);
  if (size === 4) return shortest(view.getFloat32(0, true), 9, Math.fround);
  if (size === 2) return shortest(view.getFloat16(0, true), 5, Math.f16round);
  return undefined;
}

/** Returns the shortest decimal number that rounds to the same float: 0.1, not 0.10000000149011612. */
function shortest(value: number, maxDigits: number, round: (value: number) => number): number {
  for (let digits = 1; digits < maxDigits; digits++) {
    const candidate = Number(value.toPrecision(digits));
    if (round(candidate) === value) return candidate;
  }
  return value;
}
